"""What an installation wants of all Pods: read from JSON, kept apart from what the operator sets itself."""

import pytest
from finetune_operator.api.pod_settings import PodSettings, read_pod_settings
from finetune_operator.errors import FinetuneError
from finetune_operator.manifests.children import children
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
