"""What is kept of an object: enough for every pass, and nothing that nobody reads."""

from typing import Any

from finetune_operator.controller.seen import seen_pod
from finetune_operator.controller.stored import stored

META: dict[str, Any] = {
    "name": "j-0-0",
    "namespace": "team",
    "uid": "pod",
    "resourceVersion": "7",
    "creationTimestamp": "2026-01-02T03:04:05Z",
    "labels": {"finetune.dev/role": "trainer"},
    "ownerReferences": [{"uid": "job", "controller": True, "kind": "FineTuneJob", "name": "j"}],
}
POD: dict[str, Any] = {
    "metadata": META | {"managedFields": [{"manager": "kubelet"}], "annotations": {"finetune.dev/run": "{}" * 999}},
    "spec": {
        "nodeName": "gpu-1",
        "schedulingGates": [{"name": "finetune.dev/gang"}],
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
        "containers": [
            {
                "name": "trainer",
                "image": "trainer:1",
                "env": [{"name": "A", "value": "b"}],
                "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"cpu": "4"}},
            }
        ],
    },
    "status": {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "the node was low on memory",
        "podIP": "10.0.0.1",
        "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}],
        "initContainerStatuses": [{"name": "mesh", "state": {"terminated": {"exitCode": 1}}, "imageID": "sha256:1"}],
        "containerStatuses": [
            {
                "name": "trainer",
                "imageID": "sha256:2",
                "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "Killed"}},
            }
        ],
    },
}


def test_a_pod_is_kept_as_far_as_decisions_look_at_it():
    """What it runs is not kept, nor what kubelet and mesh wrote for others."""
    kept = stored("Pod", POD)

    assert kept.raw == {
        "metadata": META,
        "spec": {
            "nodeName": "gpu-1",
            "schedulingGates": [{"name": "finetune.dev/gang"}],
            "containers": [{"name": "trainer", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        },
        "status": {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "the node was low on memory",
            "conditions": POD["status"]["conditions"],
            "initContainerStatuses": [{"name": "mesh", "state": {"terminated": {"exitCode": 1}}}],
            "containerStatuses": [{"name": "trainer", "state": POD["status"]["containerStatuses"][0]["state"]}],
        },
    }
    assert seen_pod(kept.raw) == seen_pod(POD)


MANAGED = [
    {"manager": name, "operation": "Update", "fieldsV1": {"f:status": {}}}
    for name in ("finetune-operator", "argocd-controller", "argocd-controller")
]


def test_a_job_is_kept_whole_but_for_what_was_applied():
    """The last applied configuration says the spec once more; of managedFields only the managers are read."""
    meta = {"name": "j", "namespace": "team", "uid": "job", "resourceVersion": "9", "annotations": {"a": "b"}}
    noted = meta["annotations"] | {"kubectl.kubernetes.io/last-applied-configuration": "{}"}  # type: ignore[operator]
    status = {"phase": "Training", "attempts": [{"number": 0}], "plan": {"pool": {"name": "h100"}}}
    raw = {
        "metadata": meta | {"annotations": noted, "managedFields": MANAGED},
        "spec": {"method": "lora"},
        "status": status,
    }

    kept = stored("FineTuneJob", raw)

    managers = [{"manager": "argocd-controller"}, {"manager": "finetune-operator"}]
    assert kept.raw == {"metadata": meta | {"managedFields": managers}, "spec": {"method": "lora"}, "status": status}
    assert (kept.uid, kept.version, kept.family) == ("job", 9, "team/j")
    assert (kept.phase, kept.begun, kept.pool) == ("Training", True, "h100")


def test_the_gpus_of_a_job_are_those_of_its_plan():
    """One Pod and one GPU are told by nothing; a job without a plan has none."""
    plans: list[dict[str, Any]] = [{}, {"summary": "lora"}, {"replicas": 2}, {"replicas": 2, "gpusPerReplica": 8}]
    jobs = [{"metadata": META, "spec": {}, "status": {"plan": plan}} for plan in plans]

    assert [stored("FineTuneJob", job).gpus for job in jobs] == [0, 1, 2, 16]
