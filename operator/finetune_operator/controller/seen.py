"""A Pod as the API server shows it -> the SeenPod that decisions look at. Pure. Called by cluster.observe."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from finetune_contract import harmless, parse_outcome

from finetune_operator.api.status import FineTuneJob
from finetune_operator.controller.containers import Containers
from finetune_operator.controller.stored import controller_uid, controlling_owner
from finetune_operator.lifecycle.observation import SeenPod
from finetune_operator.manifests.names import CONTAINERS, GANG_GATE, pod_identity

Raw = dict[str, Any]

KUBELETS_REASONS = (
    "ContainersNotReady",
    "ReadinessGatesNotReady",
    "PodCompleted",
    "PodFailed",
    "UnknownContainerStatuses",
)
"""Reasons with which a kubelet says that a Pod is not ready. The node lifecycle controller, which says it for a node that
is silent, gives none."""


def seen_pods(raws: Iterable[Raw]) -> tuple[SeenPod, ...]:
    """Return the job's Pods among some that carry its labels: those that have the name of one, and its owner."""
    return tuple(pod for pod in map(seen_pod, raws) if pod is not None)


def seen_pod(raw: Raw) -> SeenPod | None:
    """Return what a decision needs to know about one of our Pods; None for a Pod that is none of them."""
    meta, spec, status = raw["metadata"], raw["spec"], raw.get("status", {})
    identity = pod_identity(controlling_owner(raw).get("name", ""), meta["name"])
    if identity is None:
        return None
    containers = Containers(status, CONTAINERS[identity.role])
    ended, waiting = containers.ended, containers.waiting
    message = str(ended.get("message", ""))
    scheduled = condition(status, "PodScheduled")
    gates = tuple(gate["name"] for gate in spec.get("schedulingGates") or ())
    return SeenPod(
        name=meta["name"],
        uid=meta["uid"],
        role=identity.role,
        owner_uid=controller_uid(raw),
        generation=identity.generation,
        attempt=identity.attempt,
        replica=identity.replica,
        phase=containers.phase,
        deleting="deletionTimestamp" in meta,
        delete_by=time_of(meta["deletionTimestamp"]) if "deletionTimestamp" in meta else None,
        finalizers=tuple(meta.get("finalizers") or ()),
        gated=GANG_GATE in gates,
        other_gates=tuple(gate for gate in gates if gate != GANG_GATE),
        created_at=time_of(meta["creationTimestamp"]),
        scheduled_at=time_of(scheduled["lastTransitionTime"]) if scheduled.get("status") == "True" else None,
        node_name=spec.get("nodeName", ""),
        taken_in="startTime" in status or bool(status.get("containerStatuses")),
        node_silent=containers.runs and is_silent(status),
        ignored_by="" if gates or "nodeName" in spec or is_considered(scheduled) else spec.get("schedulerName", ""),
        unschedulable=scheduled.get("message", "") if scheduled.get("reason") == "Unschedulable" else "",
        waiting_reason=waiting.reason,
        waiting_message=harmless(waiting.message),
        waiting_container=waiting.container,
        never_ran=containers.never_ran,
        culprit=harmless(containers.culprit) if containers.never_ran else "",
        lingers=containers.lingers,
        finished_at=time_of(ended["finishedAt"]) if ended.get("finishedAt") else None,
        exit_code=ended.get("exitCode"),
        terminated_reason=ended.get("reason", ""),
        termination_message=harmless(message),
        outcome=parse_outcome(message) if message else None,
        pod_reason=status.get("reason", ""),
        pod_message=harmless(status.get("message", "")),
        disruption=disruption(status),
    )


def unrecorded(job: FineTuneJob, present: Sequence[SeenPod], departed: Sequence[SeenPod]) -> tuple[SeenPod, ...]:
    """Return the trainers of the running attempt that had ended, or were taken away, and are gone before anybody recorded it.

    Decisions see them as they see a Pod that has ended and is about to go. Once the attempt's end is recorded, or a new
    Pod has the name, they are past.
    """
    last = job.status.attempts[-1] if job.status.attempts else None
    if last is None or last.outcome is not None:
        return ()
    names = {pod.name for pod in present}
    ours = (pod for pod in departed if pod.owner_uid == job.metadata.uid and pod.name not in names)
    ended = (pod for pod in ours if pod.finished or pod.disruption)
    found = (pod for pod in ended if pod.role == "trainer" and pod.attempt == last.number)
    # being deleted: nobody deletes it again
    newest = {pod.name: replace(pod, deleting=True, phase=pod.phase if pod.finished else "Failed") for pod in found}
    return tuple(newest.values())


def unended(owner_uid: str, taken: Sequence[SeenPod]) -> tuple[SeenPod, ...]:
    """Return the Pods of a job that were deleted before they had ended by themselves; a kubelet reports the end of those that ran."""
    ours = (pod for pod in taken if pod.owner_uid == owner_uid)
    return tuple(pod for pod in ours if not pod.finished or (pod.deleting and pod.outcome is None))


def replica_zero(pods: Sequence[SeenPod], owner_uid: str) -> SeenPod | None:
    """Return replica 0 of the job's newest attempt."""
    zeros = [pod for pod in pods if pod.owner_uid == owner_uid and pod.role == "trainer" and pod.replica == 0]
    return max(zeros, key=lambda pod: pod.attempt, default=None)


def condition(status: Raw, kind: str) -> Raw:
    """Return the condition of a type, empty without one."""
    found: Iterable[Raw] = (each for each in status.get("conditions") or () if each["type"] == kind)
    return next(iter(found), {})


def is_considered(scheduled: Raw) -> bool:
    """Tell whether a scheduler has looked at a Pod. That it was gated once is the API server's word."""
    return bool(scheduled.get("reason", "SchedulingGated") != "SchedulingGated")


def disruption(status: Raw) -> str:
    """Return why the Pod is being disrupted; empty when it is not."""
    target = condition(status, "DisruptionTarget")
    return str(target.get("reason", "")) if target.get("status") == "True" else ""


def is_silent(status: Raw) -> bool:
    """Tell whether the Pod's node does not answer: then somebody else than its kubelet says that the Pod is not ready."""
    ready = condition(status, "Ready")
    return status.get("phase") == "Unknown" or (
        ready.get("status") in ("False", "Unknown") and ready.get("reason", "") not in KUBELETS_REASONS
    )


def time_of(text: str) -> datetime:
    """Read a Kubernetes time."""
    return datetime.fromisoformat(text)
