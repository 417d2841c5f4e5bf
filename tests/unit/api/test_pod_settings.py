"""What an installation wants of all Pods: read from JSON, kept apart from what the operator sets itself."""

from typing import Any

import pytest
from finetune_operator.api.pod_settings import PodSettings, read_pod_settings
from finetune_operator.api.pool_pod import PoolPodSettings
from finetune_operator.api.published import ExportStatus
from finetune_operator.errors import FinetuneError
from finetune_operator.manifests.children import children
from finetune_operator.manifests.export import export_pod
from finetune_operator.manifests.preflight import needs, preflight_pod

from tests.unit.manifests.test_manifests import a_pinned_job

GIVEN = """{
  "labels": {"kueue.x-k8s.io/queue-name": "team", "app.kubernetes.io/team": "nlp"},
  "annotations": {"sidecar.istio.io/inject": "false"},
  "architectures": ["arm64"],
  "preflight": {
    "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
    "nodeSelector": {"pool": "small"},
    "tolerations": [{"key": "team", "operator": "Exists", "effect": "NoSchedule"}]
  }
}"""


def test_nothing_given_is_the_default():
    """A cluster that asks for nothing special."""
    assert read_pod_settings("") == PodSettings()
    assert needs(PodSettings()) == "500m CPU and 1Gi of memory on a node without taints; no GPU"


def test_every_resource_of_preflight_has_a_limit():
    """A quota on limits.cpu, limits.memory or limits.ephemeral-storage refuses Pods without one."""
    resources = PodSettings().preflight.resources

    assert sorted(resources.limits) == sorted(resources.requests) == ["cpu", "ephemeral-storage", "memory"]


def test_preflight_is_made_as_the_settings_say():
    """Labels, annotations, resources, selector and tolerations; the operator's own labels stay."""
    pod = preflight_pod(a_pinned_job(), 1, image="p", settings=read_pod_settings(GIVEN))
    meta, spec = pod["metadata"], pod["spec"]

    assert meta["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert meta["labels"]["finetune.dev/role"] == "preflight"
    assert meta["annotations"]["sidecar.istio.io/inject"] == "false"
    assert spec["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "2Gi"}
    assert spec["nodeSelector"] == {"pool": "small"}
    assert spec["tolerations"][0] == {"key": "team", "operator": "Exists", "effect": "NoSchedule"}
    assert needs(read_pod_settings(GIVEN)) == (
        "1 CPU and 2Gi of memory on a node labelled pool=small without taints or only taints that the operator's settings "
        "tolerate; no GPU"
    )


def test_trainers_get_labels_annotations_and_the_architecture():
    """Resources, selector and tolerations of a trainer are its plan's and its pool's."""
    job = a_pinned_job()
    (pod,) = children(job, job.status, 0, read_pod_settings(GIVEN))
    affinity = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    system, processor = affinity["nodeSelectorTerms"][0]["matchExpressions"]

    assert pod["metadata"]["labels"]["app.kubernetes.io/team"] == "nlp"
    assert pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    assert system == {"key": "kubernetes.io/os", "operator": "NotIn", "values": ["windows"]}
    assert ("amd64" in processor["values"], "arm64" in processor["values"]) == (True, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "--pod-settings cannot be read: .*"),
        ('{"label": {}}', "--pod-settings cannot be read: (.|\n)*label(.|\n)*"),
        ('{"labels": {"finetune.dev/role": "x"}}',
         "--pod-settings sets finetune.dev/role, which the operator sets itself: remove it"),
    ],
    ids=["no JSON", "unknown name", "ours"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_at_the_start(text: str, message: str):
    """The operator does not start: better than Pods without what was asked for."""
    with pytest.raises(FinetuneError, match=message):
        read_pod_settings(text)


NETWORK = """{
  "environment": [{"key": "HTTPS_PROXY", "value": "http://proxy:3128"}, {"key": "HF_ENDPOINT", "value": "https://hub.corp"}],
  "caBundle": {"configMap": "company-ca"},
  "imagePullSecrets": ["mirror"]
}"""
FILE = "/etc/finetune-ca/ca.crt"


def network(pod: dict[str, Any]) -> tuple[dict[str, str], list[str], list[str]]:
    """Return what a Pod's container is told of proxies and certificates, its pull secrets, and where its certificates are from."""
    (container,), spec = pod["spec"]["containers"], pod["spec"]
    told = {each["name"]: each["value"] for each in container["env"]}
    sources = [each["configMap"]["name"] for each in spec["volumes"] if each["name"] == "ca-bundle"]
    assert [each["name"] for each in container["volumeMounts"]] == [each["name"] for each in spec["volumes"]]
    assert len(told) == len(container["env"])
    names = ("HTTPS_PROXY", "HF_ENDPOINT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
    secrets = [each["name"] for each in spec.get("imagePullSecrets", ())]
    return {name: told[name] for name in names if name in told}, secrets, sources


def test_proxies_and_certificates_reach_every_pod():
    """Said once: preflight, trainers and exports have the same."""
    job, settings = a_pinned_job(), read_pod_settings(NETWORK)
    (trainer,) = children(job, job.status, 0, settings)
    export = export_pod(
        job, job.status, ExportStatus(number=0, image="i", cpus=1, memory_gib=1, ephemeral_gib=1), (), settings
    )
    told = {
        "HTTPS_PROXY": "http://proxy:3128", "HF_ENDPOINT": "https://hub.corp",
        "SSL_CERT_FILE": FILE, "REQUESTS_CA_BUNDLE": FILE, "AWS_CA_BUNDLE": FILE,
    }  # fmt: skip

    for pod in (preflight_pod(job, 1, image="p", settings=settings), trainer, export):
        assert network(pod) == (told, ["mirror"], ["company-ca"])


def test_what_a_pool_says_itself_wins():
    """Its variable, its certificates; pull secrets are added."""
    own = {
        "environment": [{"key": "HTTPS_PROXY", "value": "http://other:3128"}],
        "caBundle": {"configMap": "pool-ca"},
        "imagePullSecrets": ["pool"],
    }
    found = read_pod_settings(NETWORK).on(PoolPodSettings.model_validate(own))

    assert [(each.key, each.value) for each in found.environment] == [
        ("HF_ENDPOINT", "https://hub.corp"), ("HTTPS_PROXY", "http://other:3128"),
    ]  # fmt: skip
    assert found.ca_bundle is not None
    assert (found.ca_bundle.config_map, found.image_pull_secrets) == ("pool-ca", ["mirror", "pool"])
