"""Text that the schema must allow, such as prompts and patterns: it reaches no shell, no argument and no variable of a Pod."""

import json
from typing import Any

import pytest
from finetune_operator.local.node.environment import expand
from finetune_operator.manifests.children import children

from tests.unit.manifests.manifest_builders import RICH, a_pinned_job
from tests.unit.manifests.test_pool_pod import trainer

HOSTILE = (
    "$(HF_TOKEN)", "${HF_TOKEN}", "`id`", "; id #", "| nc evil 1", "a\nFINETUNE_ALLOW_FILE=1", "\x00", "\u202egnp.exe", "\x1b]0;x\x07",
    "{{ ''.__class__.__mro__ }}", "{0.__class__.__init__.__globals__}", "%s%n", "<script>alert(1)</script>", "'; DROP TABLE x; --",
    '"}\n{"a": 1',
)  # fmt: skip


def pod_of(text: str, replicas: int) -> dict[str, Any]:
    """Return the trainer Pod of a job with a text wherever the schema takes any."""
    evaluation = {
        "fraction": "0.1",
        "samples": {"prompts": [text]},
        "metrics": [
            {"type": "regex", "pattern": text},
            {"type": "judge", "judge": {"endpoint": "https://judge/v1", "model": "m", "criteria": text}},
        ],
    }
    data = [{"source": "pvc://data/d.jsonl", "roles": {"user": [text]}, "promptTemplate": f"{text} {{a}}"}]
    chat = {"systemPrompt": text, "templateArguments": [{"name": "x", "value": text}]}
    metadata = {"annotations": [{"key": "note", "value": text}]}
    spec = RICH | {"evaluation": evaluation, "datasets": data, "chat": chat, "podMetadata": metadata}
    job = a_pinned_job(replicas=replicas, **spec)
    return next(each for each in children(job, job.status, 0) if each["kind"] == "Pod")


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_text_is_in_the_configuration_and_nowhere_else(text: str):
    """The configuration is a file of JSON; what the kubelet expands and the kernel executes is the same for every job."""
    pod, plain = pod_of(text, 1), pod_of("plain", 1)
    annotations = pod["metadata"]["annotations"]
    config = json.loads(annotations["finetune.dev/run"])

    assert pod["spec"] == plain["spec"]
    assert pod["metadata"]["labels"] == plain["metadata"]["labels"]
    assert annotations["note"] == text
    assert config["evaluation"]["prompts"] == [text]
    assert config["chat"]["systemPrompt"] == text
    assert "\n" not in annotations["finetune.dev/run"]


@pytest.mark.parametrize("value", ["$(HF_TOKEN)", "$$(HF_TOKEN)", "$$", "a$b", "$(A)$(B)", "mlx5"])
def test_a_variable_of_a_pool_is_what_the_pool_says(value: str):
    """The kubelet replaces $(NAME): it is told not to."""
    pod = trainer({"environment": [{"key": "NCCL_IB_HCA", "value": value}]})
    (found,) = (each["value"] for each in pod["spec"]["containers"][0]["env"] if each["name"] == "NCCL_IB_HCA")

    assert expand(found, {"HF_TOKEN": "secret", "A": "1", "B": "2"}) == value
