"""PodGroups: how other schedulers are told which Pods belong together. One plug-in per scheduler. Called by gang and pod.

A PodGroup is made when all replicas exist, right before their gates are lifted. It belongs to the first of them, and goes with that Pod.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from finetune_operator.api.pool_pod import PodGroupKind
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.manifests import names
from finetune_operator.manifests.labels import Manifest, attempt_labels, metadata
from finetune_operator.manifests.pinned import pinned

VOLCANO_GROUP: Final = "scheduling.k8s.io/group-name"
VOLCANO_QUEUE: Final = "scheduling.volcano.sh/queue-name"
PLUGINS_GROUP: Final = "scheduling.x-k8s.io/pod-group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """What one scheduler wants."""

    version: str
    """apiVersion of its PodGroup."""
    labels: Callable[[str], dict[str, str]]
    """What Pods of a group of this name are labelled with."""
    annotations: Callable[[str], dict[str, str]]
    spec: Callable[[Manifest, int], dict[str, Any]]
    """The PodGroup's spec, by one of its Pods and their number."""


def minimum(pod: Manifest, replicas: int) -> dict[str, Any]:
    """Return what the Pods need together. Their requests are whole numbers, of Gi where it is memory or disk."""
    requests: Mapping[str, str] = pod["spec"]["containers"][0]["resources"]["requests"]
    total = {key: f"{int(amount.removesuffix('Gi')) * replicas}{amount[len(amount.removesuffix('Gi')) :]}"
             for key, amount in requests.items()}  # fmt: skip
    return {"minMember": replicas, "minResources": total}


def volcano(pod: Manifest, replicas: int) -> dict[str, Any]:
    """Return the spec of Volcano's PodGroup; its queue is an annotation of the Pods, which pool, policy or job set."""
    priority = pod["spec"].get("priorityClassName")
    queue = pod["metadata"]["annotations"].get(VOLCANO_QUEUE)
    return (
        minimum(pod, replicas)
        | ({"queue": queue} if queue else {})
        | ({"priorityClassName": priority} if priority else {})
    )


PLUGINS: dict[PodGroupKind, Plugin] = {
    "volcano": Plugin(
        version="scheduling.volcano.sh/v1beta1",
        labels=lambda _: {},
        annotations=lambda name: {VOLCANO_GROUP: name},
        spec=volcano,
    ),
    "scheduler-plugins": Plugin(
        version="scheduling.x-k8s.io/v1alpha1",
        labels=lambda name: {PLUGINS_GROUP: name},
        annotations=lambda _: {},
        spec=minimum,
    ),
}


def member(job: str, attempt: int, kind: PodGroupKind | None, replicas: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return labels and annotations of a Pod that is in a PodGroup; empty for one that is alone."""
    if kind is None or replicas == 1:
        return {}, {}
    name = names.service_name(job, attempt)
    return PLUGINS[kind].labels(name), PLUGINS[kind].annotations(name)


def pod_group(
    job: FineTuneJob, status: FineTuneJobStatus, attempt: int, first: Manifest, first_uid: str
) -> Manifest | None:
    """Return the PodGroup of an attempt, all of whose Pods are like the first; None where its pool wants none."""
    plan = pinned(status).plan
    kind = plan.pool.pod.pod_group
    if kind is None or plan.replicas == 1:
        return None
    owner = {"apiVersion": "v1", "kind": "Pod", "name": first["metadata"]["name"], "uid": first_uid}
    meta = metadata(job, names.service_name(job.metadata.name, attempt), attempt_labels(job, attempt))
    return {
        "apiVersion": PLUGINS[kind].version,
        "kind": "PodGroup",
        "metadata": meta | {"ownerReferences": [owner]},
        "spec": PLUGINS[kind].spec(first, plan.replicas),
    }
