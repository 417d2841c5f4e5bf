"""A Pod as the API server shows it -> the SeenPod that decisions look at. Pure. Called by cluster.observe."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from finetune_contract import parse_outcome

from finetune_operator.api.status import FineTuneJob
from finetune_operator.controller.store import controller_uid
from finetune_operator.lifecycle.observation import Role, SeenPod
from finetune_operator.manifests.names import (
    ATTEMPT_LABEL,
    GANG_GATE,
    GENERATION_LABEL,
    REPLICA_LABEL,
    ROLE_LABEL,
)

Raw = dict[str, Any]


def seen_pod(raw: Raw) -> SeenPod:
    """Return what a decision needs to know about one of our Pods."""
    meta, spec, status = raw["metadata"], raw["spec"], raw.get("status", {})
    container = container_status(status)
    waiting = container.get("state", {}).get("waiting") or {}
    ended = container.get("state", {}).get("terminated") or {}
    message = str(ended.get("message", ""))
    scheduled = condition(status, "PodScheduled")
    labels = meta.get("labels", {})
    return SeenPod(
        name=meta["name"],
        uid=meta["uid"],
        role=cast("Role", labels.get(ROLE_LABEL, "trainer")),
        owner_uid=controller_uid(raw),
        generation=number(labels.get(GENERATION_LABEL)),
        attempt=number(labels.get(ATTEMPT_LABEL)),
        replica=number(labels.get(REPLICA_LABEL)),
        phase=status.get("phase", "Pending"),
        deleting="deletionTimestamp" in meta,
        delete_by=time_of(meta["deletionTimestamp"]) if "deletionTimestamp" in meta else None,
        gated=any(gate["name"] == GANG_GATE for gate in spec.get("schedulingGates", ())),
        created_at=time_of(meta["creationTimestamp"]),
        scheduled_at=time_of(scheduled["lastTransitionTime"]) if scheduled.get("status") == "True" else None,
        node_name=spec.get("nodeName", ""),
        unschedulable=scheduled.get("message", "") if scheduled.get("reason") == "Unschedulable" else "",
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        finished_at=finished_at(status),
        exit_code=ended.get("exitCode"),
        terminated_reason=ended.get("reason", ""),
        outcome=parse_outcome(message) if message else None,
        pod_reason=status.get("reason", ""),
        pod_message=status.get("message", ""),
        disruption=disruption(status),
    )


def unrecorded(job: FineTuneJob, present: Sequence[SeenPod], departed: Sequence[SeenPod]) -> tuple[SeenPod, ...]:
    """Return the trainers of the running attempt that had ended and were deleted before anybody recorded how.

    Decisions see them as they see a Pod that has ended and is about to go. Once the attempt's end is recorded, or a new
    Pod has the name, they are past.
    """
    last = job.status.attempts[-1] if job.status.attempts else None
    if last is None or last.outcome is not None:
        return ()
    names = {pod.name for pod in present}
    ended = (pod for pod in departed if pod.finished and pod.owner_uid == job.metadata.uid and pod.name not in names)
    found = (pod for pod in ended if pod.role == "trainer" and pod.attempt == last.number)
    # being deleted: nobody deletes it again
    newest = {pod.name: replace(pod, deleting=True) for pod in found}
    return tuple(newest.values())


def container_status(status: Raw) -> Raw:
    """Return the status of the Pod's container, or of an init container while that one holds the Pod back."""
    for initial in status.get("initContainerStatuses") or ():
        ended = initial.get("state", {}).get("terminated") or {}
        if initial.get("state", {}).get("waiting") or ended.get("exitCode"):
            return cast("Raw", initial)
    containers: list[Raw] = status.get("containerStatuses") or [{}]
    return containers[0]


def condition(status: Raw, kind: str) -> Raw:
    """Return the condition of a type, empty without one."""
    found: Iterable[Raw] = (each for each in status.get("conditions") or () if each["type"] == kind)
    return next(iter(found), {})


def disruption(status: Raw) -> str:
    """Return why the Pod is being disrupted; empty when it is not."""
    target = condition(status, "DisruptionTarget")
    return str(target.get("reason", "")) if target.get("status") == "True" else ""


def finished_at(status: Raw) -> datetime | None:
    """Return when the last container ended; None while one has not."""
    ends = [(each.get("state", {}).get("terminated") or {}) for each in status.get("containerStatuses") or ()]
    if not ends or not all(end.get("finishedAt") for end in ends):
        return None
    return max(time_of(end["finishedAt"]) for end in ends)


def number(label: str | None) -> int:
    """Read a label that holds a number; anything else is 0."""
    return int(label) if label and label.isdecimal() else 0


def time_of(text: str) -> datetime:
    """Read a Kubernetes time."""
    return datetime.fromisoformat(text)
