"""FineTuneJobs and GPUPools of somebody who means harm, and where each is refused. Used by test_api_hostile."""

import json
from typing import Any

Row = tuple[dict[str, Any], str, str]
"""(what is set in a good manifest, the field that the refusal names, the words that it says)"""

MODEL, DATA, OUTPUT = "spec.model.source", "spec.datasets.0.source", "spec.output.destination"
DATA_FIELD = "spec.datasets[0].source"
METRIC, METRIC_FIELD = "spec.evaluation.metrics", "spec.evaluation.metrics[0]"
CHARACTERS = "may contain only ASCII letters, digits and . _ = + , ~ / -"
DOTS = "must not contain //, . or .. in the path: write the full path"
ENDPOINT = "must be a URL without query and user, such as https://api.openai.com/v1"
NUMBERED = "must not lead to the metadata of the cloud, and an address must be four decimal numbers: use the name of the server"
NAME = "must be a valid Kubernetes object name: lower-case letters, digits, - and ., such as team-a"
KEY = "must be a valid label key, such as nvidia.com/gpu.product"
VALUE = "must be a valid label value: letters, digits, -, _ and ., starting and ending with a letter or digit"
OURS = "must not belong to finetune.dev or kubernetes.io"
ONE_LINE = "must be one line without control characters and marks that turn the direction of text"
ARGUMENT = "must be a variable of the chat template, such as enable_thinking"
BUNDLE = "must be a key of a ConfigMap, such as ca.crt"
NETWORK = "must be a variable of the network: NCCL_*, TORCH_NCCL_*, GLOO_*, FI_*, OFI_*, UCX_*"
TOO_LONG = "Too long: may not be more than {} bytes"
SCHEME = "must start with "
MEGABYTE = "a" * 1_000_000


def judge(endpoint: str, **more: str) -> dict[str, Any]:
    """Return the metric of a judge."""
    return {METRIC: [{"type": "judge", "judge": {"endpoint": endpoint, "model": "m"} | more}]}


def nested(depth: int) -> Any:
    """Return lists in lists."""
    return json.loads("[" * depth + "]" * depth)


PLACES: list[Row] = [
    ({MODEL: "file:///../../etc/shadow"}, MODEL, DOTS),
    ({MODEL: "pvc://models/../../var/run/secrets"}, MODEL, DOTS),
    ({MODEL: "pvc://../etc/passwd"}, MODEL, DOTS),
    ({MODEL: "pvc://models/./x"}, MODEL, DOTS),
    ({MODEL: "pvc://models//etc"}, MODEL, DOTS),
    ({MODEL: "s3://bucket/a/.."}, MODEL, DOTS),
    ({MODEL: "s3://bucket/..%2f..%2fother"}, MODEL, CHARACTERS),
    ({MODEL: "s3://bucket/%00"}, MODEL, CHARACTERS),
    ({MODEL: "s3://AKIA:secret@bucket/a"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/model?token=hf_secret"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/model#main"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/model/../../datasets/x"}, MODEL, DOTS),
    ({MODEL: "hf://org/$(HF_TOKEN)"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/${HF_TOKEN}"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/`id`"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/m;id"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/m|id"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/m&&id"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/m'\""}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/m\n"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/m\r\nSet-Cookie: a=b"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/m\x00"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/m\x1b]0;owned\x07"}, MODEL, CHARACTERS),
    ({MODEL: "hf://m\u0435ta-llama/Llama-3"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/\u202egnp.exe"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org/a\u200bb"}, MODEL, CHARACTERS),
    ({MODEL: "hf://org\\model"}, MODEL, CHARACTERS),
    ({MODEL: "HF://org/model"}, MODEL, SCHEME),
    ({MODEL: "http://169.254.169.254/latest"}, MODEL, SCHEME),
    ({MODEL: "javascript:alert(1)"}, MODEL, SCHEME),
    ({MODEL: "--config=/etc/passwd"}, MODEL, SCHEME),
    ({MODEL: "https://example.org/model"}, MODEL, SCHEME),
    ({MODEL: "hf://org/" + MEGABYTE}, MODEL, TOO_LONG.format(1024)),
    ({MODEL: nested(50)}, MODEL, "must be of type string"),
    ({DATA: "https://[::1]/a.jsonl"}, DATA_FIELD, CHARACTERS),
    ({DATA: "https://user:pass@example.org/a.jsonl"}, DATA_FIELD, CHARACTERS),
    ({DATA: "https://example.org:6443/a.jsonl"}, DATA_FIELD, CHARACTERS),
    ({DATA: "https://example.org/a.jsonl?x=1"}, DATA_FIELD, CHARACTERS),
    ({DATA: "https://EXAMPLE.org/a.jsonl"}, DATA_FIELD, "https:// takes the address of one file"),
    ({DATA: "http://example.org/a.jsonl"}, DATA_FIELD, SCHEME),
    ({DATA: "configmap://kube-root-ca.crt/ca.crt"}, DATA_FIELD, SCHEME),
    ({DATA: "s3://bucket/**/../x"}, DATA_FIELD, DOTS),
    ({OUTPUT: "https://example.org/put"}, OUTPUT, SCHEME),
    ({OUTPUT: "s3://bucket/*"}, OUTPUT, CHARACTERS),
    ({OUTPUT: "s3://bucket/$(cat /run/secrets/x)"}, OUTPUT, CHARACTERS),
    ({"spec.checkpoint.destination": "pvc://c/../../.."}, "spec.checkpoint.destination", DOTS),
    ({"spec.lora.initialAdapter": "hf://org/a b"}, "spec.lora.initialAdapter", CHARACTERS),
    ({"spec.chat": {"templateSource": "configmap://chat/../token"}}, "spec.chat.templateSource", DOTS),
    ({"spec.chat": {"templateSource": "https://evil.org/t.jinja"}}, "spec.chat.templateSource", SCHEME),
    ({"spec.evaluation.source": {"source": "file:///etc/../etc/shadow"}}, "spec.evaluation.source.source", DOTS),
]  # fmt: skip

ENDPOINTS: list[Row] = [
    *(
        (judge(url), f"{METRIC_FIELD}.judge.endpoint", words)
        for url, words in (
            ("http://169.254.169.254/latest/meta-data", NUMBERED),
            ("http://169.254.170.2/v2/credentials", NUMBERED),
            ("http://2852039166/latest", NUMBERED),
            ("http://0xA9FEA9FE/latest", NUMBERED),
            ("http://0xa9.254.169.254/", NUMBERED),
            ("http://0251.0376.0251.0376/", NUMBERED),
            ("http://169.0254.169.254", NUMBERED),
            ("http://169.254.0251.0376:80", NUMBERED),
            ("http://169.16689662/", NUMBERED),
            ("http://169.254.43518:80/", NUMBERED),
            ("http://100.100.100.200/latest", NUMBERED),
            ("http://168.63.129.16/machine", NUMBERED),
            ("http://metadata.google.internal/computeMetadata/v1", NUMBERED),
            ("http://metadata.google.internal./v1", NUMBERED),
            ("http://METADATA.google.internal/v1", NUMBERED),
            ("http://metadata/v1", NUMBERED),
            ("http://[::ffff:169.254.169.254]/", ENDPOINT),
            ("http://[fe80::1]/v1", ENDPOINT),
            ("http://169.254.169.254@api.openai.com/v1", ENDPOINT),
            ("http://api.openai.com/v1?key=sk-secret", ENDPOINT),
            ("http://user:secret@api.openai.com/v1", ENDPOINT),
            ("http://api.openai.com/v1#x", ENDPOINT),
            ("http://api.openai.com\r\nHost: evil/v1", ENDPOINT),
            ("http://\uff41pi.openai.com/v1", ENDPOINT),
            ("http://1\u24ea.0.0.1/v1", ENDPOINT),
            ("http://a/$(OPENAI_API_KEY)", ENDPOINT),
            ("file:///etc/passwd", ENDPOINT),
            ("gopher://a/1", ENDPOINT),
            ("http://a/" + MEGABYTE, TOO_LONG.format(1024)),
        )
    ),
    ({"spec.trackers": [{"type": "mlflow", "uri": "http://169.254.169.254/"}]}, "spec.trackers[0].uri", NUMBERED),
    ({"spec.trackers": [{"type": "mlflow", "uri": "http://u:p@mlflow"}]}, "spec.trackers[0].uri", ENDPOINT),
    ({"spec.trackers": [{"type": "mlflow", "uri": "sqlite:////etc/x.db"}]}, "spec.trackers[0].uri", ENDPOINT),
    ({"spec.trackers": [{"type": "mlflow", "uri": "http://mlflow", "project": "a\x1b[2J"}]}, "spec.trackers[0].project", ONE_LINE),
    (judge("http://judge/v1", model="m\n{\"step\": 1}"), f"{METRIC_FIELD}.judge.model", ONE_LINE),
    (judge("http://judge/v1", model="m\u202e"), f"{METRIC_FIELD}.judge.model", ONE_LINE),
    (judge("http://judge/v1", model="m\x00"), f"{METRIC_FIELD}.judge.model", ONE_LINE),
    (judge("http://judge/v1", criteria=MEGABYTE), f"{METRIC_FIELD}.judge.criteria", TOO_LONG.format(2048)),
]  # fmt: skip

NAMES: list[Row] = [
    *(
        ({"spec.chat": {"templateArguments": [{"name": name, "value": "1"}]}}, "spec.chat.templateArguments[0].name", ARGUMENT)
        for name in ("__class__.__mro__", "a}}{{7*7")
    ),
    *(
        ({field: name}, field, NAME)
        for field in ("spec.serviceAccountName", "spec.priorityClassName", "spec.queueName")
        for name in ("a;id", "../default", "$(ID)", "a..b", "a.-b", "-a", "A", "a\n", "\u0430dmin")
    ),
    *(
        ({"spec.model.credentials": {"secretName": name}}, "spec.model.credentials.secretName", NAME)
        for name in ("../other/secret", "other/secret", "a:b=/etc", "$(id)", "a b", "a..b", "`id`", "a\x00")
    ),
    ({"spec.serviceAccountName": "a" * 254}, "spec.serviceAccountName", TOO_LONG.format(253)),
    ({"metadata.name": "a.b"}, "metadata.name", "must be at most 52 lower-case letters"),
    ({"spec.resources.pools": ["a", "b;c"]}, "spec.resources.pools[1]", NAME),
    ({"spec.resources.pools": [f"p{n}" for n in range(5000)]}, "spec.resources.pools", "must have at most 32 items"),
    ({"spec.lora": {"targets": "custom", "targetModules": ["q_proj", ".*(a+)+$"]}}, "spec.lora.targetModules[1]", "must be a module name"),
    ({"spec.model.revision": "--upload-pack=id"}, "spec.model.revision", "must be a commit, tag or branch on the hub"),
    ({"spec.model.revision": "refs/../../x y"}, "spec.model.revision", "must be a commit, tag or branch on the hub"),
    ({"spec.datasets.0.split": "train[:100%]"}, "spec.datasets[0].split", "must be the name of a split"),
    ({"spec.datasets.0.config": "../x"}, "spec.datasets[0].config", "must be the name of a configuration"),
    ({"spec.datasets.0.promptTemplate": "{}"}, "spec.datasets[0].promptTemplate", "must name at least one column"),
    ({"spec.datasets.0.promptTemplate": MEGABYTE + "{a}"}, "spec.datasets[0].promptTemplate", TOO_LONG.format(4096)),
    ({"spec.datasets": [{"source": "s3://bucket/a"}] * 5000}, "spec.datasets", "must have at most 16 items"),
    ({METRIC: [{"type": "regex", "pattern": MEGABYTE}]}, f"{METRIC_FIELD}.pattern", TOO_LONG.format(1024)),
    ({METRIC: [{"type": "json", "jsonSchema": MEGABYTE}]}, f"{METRIC_FIELD}.jsonSchema", TOO_LONG.format(8192)),
    ({METRIC: [{"type": "json", "name": "<img src=x>"}]}, f"{METRIC_FIELD}.name", "must be a name of letters, digits and -"),
    ({"spec.output.exports": ["gguf-q4_k_m;id"]}, "spec.output.exports[0]", "Unsupported value"),
    ({"spec.training": {"learningRate": "1e-4; import os"}}, "spec.training.learningRate", "must be a decimal in quotes"),
    ({"spec.runPolicy": {"budget": {"maxCostUSD": "-1"}}}, "spec.runPolicy.budget.maxCostUSD", "must be a decimal in quotes"),
    ({"spec.runPolicy": {"maxRetries": 10**18}}, "spec.runPolicy.maxRetries", "should be less than or equal to 100"),
]  # fmt: skip

LABELS: list[Row] = [
    *(
        ({"spec.podMetadata": {kind: [{"key": key, "value": "x"}]}}, f"spec.podMetadata.{kind}[0].key", words)
        for kind in ("labels", "annotations")
        for key, words in (
            ("finetune.dev/job-uid", OURS),
            ("a.finetune.dev/x", OURS),
            ("app.kubernetes.io/managed-by", OURS),
            ("pod-security.kubernetes.io/enforce", OURS),
            ("container.apparmor.security.beta.kubernetes.io/trainer", OURS),
            (".kubernetes.io/x", KEY),
            ("a..kubernetes.io/x", KEY),
            ("-.kubernetes.io/x", KEY),
            ("FINETUNE.dev/x", KEY),
            ("f\u0456netune.dev/x", KEY),
            ("a/b/c", KEY),
            ("a\nb", KEY),
            ("$(x)", KEY),
        )
    ),
    *(
        ({"spec.podMetadata": {"labels": [{"key": "team", "value": value}]}}, "spec.podMetadata.labels[0].value", VALUE)
        for value in ("$(x)", "a b", "a\n", "../x", "\u202e", "<b>")
    ),
    ({"spec.podMetadata": {"annotations": [{"key": "a", "value": MEGABYTE}]}},
     "spec.podMetadata.annotations[0].value", TOO_LONG.format(1024)),
]  # fmt: skip

POOLS: list[Row] = [
    *(
        ({"spec.pod": {"environment": [{"key": key, "value": "x"}]}}, "spec.pod.environment[0].key", NETWORK)
        for key in (
            *("LD_PRELOAD", "PYTHONPATH", "PATH", "FINETUNE_RUN_CONFIG", "HF_TOKEN", "AWS_ENDPOINT_URL", "NCCL_X\n", "nccl_debug"),
            "BASH_ENV",
        )
    ),
    ({"spec.pod": {"environment": [{"key": "NCCL_DEBUG", "value": "a\x00b"}]}}, "spec.pod.environment[0].value", ONE_LINE),
    ({"spec.pod": {"environment": [{"key": "NCCL_DEBUG", "value": "a\nLD_PRELOAD=x"}]}}, "spec.pod.environment[0].value", ONE_LINE),
    ({"spec.pod": {"caBundle": {"configMap": "ca", "key": "../x"}}}, "spec.pod.caBundle.key", BUNDLE),
    ({"spec.pod": {"imagePullSecrets": ["a;b"]}}, "spec.pod.imagePullSecrets[0]", NAME),
    ({"spec.pod": {"resources": [{"key": "nvidia.com/gpu", "quantity": 1}]}}, "spec.pod.resources[0].key", "must not be a GPU"),
    ({"spec.resourceName": "cpu"}, "spec.resourceName", "must be an extended resource name with a domain"),
    ({"spec.resourceName": "..a/gpu"}, "spec.resourceName", "must be an extended resource name with a domain"),
]  # fmt: skip

JOBS = [*PLACES, *ENDPOINTS, *NAMES, *LABELS]
