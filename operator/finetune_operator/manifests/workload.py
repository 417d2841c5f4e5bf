"""The Workload with which an attempt queues at Kueue, and the Pods that Kueue has admitted. Called by lifecycle.queueing.

One Workload per attempt: what it asks for is that attempt's plan, and it is gone with it. Preflight needs no GPU and is not counted.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.manifests import names
from finetune_operator.manifests.labels import Manifest, metadata

KUEUE_GROUP: Final = "kueue.x-k8s.io"
KUEUE_VERSION: Final = f"{KUEUE_GROUP}/v1beta2"
POD_SET: Final = "trainer"
PRIORITY_LABEL: Final = f"{KUEUE_GROUP}/priority-class"
"""Label of a job that names a WorkloadPriorityClass, as Kueue has it for its own kinds of jobs."""

SCHEDULING = ("nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName", "schedulerName")


def workload_name(job: str, attempt: int) -> str:
    """Return the name of the Workload of an attempt."""
    return f"{job}-{attempt}"


def workload(job: FineTuneJob, status: FineTuneJobStatus, attempt: int, pod: Manifest) -> Manifest:
    """Return the Workload of an attempt, whose replicas are all like `pod`."""
    assert status.resolved is not None
    assert status.plan is not None
    containers = [{key: each[key] for key in ("name", "image", "resources")} for each in pod["spec"]["containers"]]
    template = {key: pod["spec"][key] for key in SCHEDULING if key in pod["spec"]}
    labels = {names.ATTEMPT_LABEL: str(attempt), f"{KUEUE_GROUP}/job-uid": job.metadata.uid}
    pod_set = {
        "name": POD_SET,
        "count": status.plan.replicas,
        "template": {"spec": {"restartPolicy": "Never", "containers": containers, **template}},
    }
    return {
        "apiVersion": KUEUE_VERSION,
        "kind": "Workload",
        "metadata": metadata(job, workload_name(job.metadata.name, attempt), labels),
        "spec": {"queueName": status.resolved.queue_name, **priority(job, status), "podSets": [pod_set]},
    }


def priority(job: FineTuneJob, status: FineTuneJobStatus) -> Manifest:
    """Return which class the Workload's priority comes from; its value is looked up when the Workload is created."""
    assert status.resolved is not None
    if name := job.metadata.labels.get(PRIORITY_LABEL):
        return {"priorityClassRef": {"group": KUEUE_GROUP, "kind": "WorkloadPriorityClass", "name": name}}
    if name := status.resolved.priority_class_name:
        return {"priorityClassRef": {"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": name}}
    return {}


def admitted(pod: Manifest, node_labels: Mapping[str, str], tolerations: Sequence[Mapping[str, Any]]) -> Manifest:
    """Return a Pod on the nodes of the flavors that it was admitted with."""
    if pod["kind"] != "Pod":
        return pod
    spec = dict(pod["spec"])
    if node_labels:
        spec["nodeSelector"] = spec.get("nodeSelector", {}) | dict(node_labels)
    spec["tolerations"] = [*spec.get("tolerations", ()), *map(dict, tolerations)]
    return {**pod, "spec": spec}
