"""Why the API server refused a child of a job, and who holds what it lacks: remembered for the next pass. Called by cluster."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from finetune_operator.api.reasons import WaitingReason
from finetune_operator.api.status import FineTuneJob
from finetune_operator.controller.store import Store
from finetune_operator.errors import Forbidden, NameConflict
from finetune_operator.lifecycle.observation import Refusal
from finetune_operator.lifecycle.waiting import refusal_words
from finetune_operator.manifests.names import JOB_NAME_LABEL

ENDED = ("Succeeded", "Failed")
MOST_HOLDERS = 5
REQUESTED_GPUS = re.compile(r"requested: [^ ]*requests\.(?P<resource>[a-z0-9.-]+/(?:gpu|mig-[a-z0-9.]+))=")
"""The API server's words about the GPUs of a refused Pod; several resources are separated by commas."""

Raw = dict[str, Any]


def refusal_of(error: Forbidden | NameConflict, at: datetime) -> Refusal:
    """Tell which of the waiting reasons a refused create is."""
    message = str(error)
    if isinstance(error, NameConflict):
        return Refusal(reason="NameConflict", message=message, at=at)
    over_quota = "exceeded quota" in message or "failed quota" in message
    reason = WaitingReason.QUOTA_EXCEEDED if over_quota else WaitingReason.POD_REFUSED
    return Refusal(reason=reason, message=refusal_words(message), at=at)


def held_by(message: str, pods: Iterable[Raw]) -> str:
    """Say which jobs hold the GPUs that a Pod was refused for, most first; empty where it is about something else."""
    asked = REQUESTED_GPUS.search(message)
    if asked is None:
        return ""
    held: dict[str, int] = {}
    for pod in pods:
        job = pod["metadata"]["labels"].get(JOB_NAME_LABEL, "")
        limits = (each.get("resources", {}).get("limits", {}) for each in pod["spec"]["containers"])
        held[job] = held.get(job, 0) + sum(int(parse_quantity(limit.get(asked["resource"], 0))) for limit in limits)
    most = sorted(((gpus, job) for job, gpus in held.items() if gpus), key=lambda each: (-each[0], each[1]))
    told = [f"job {job} ({gpus} GPU{'' if gpus == 1 else 's'})" for gpus, job in most[:MOST_HOLDERS]]
    more = [f"{len(most) - MOST_HOLDERS} more"] if len(most) > MOST_HOLDERS else []
    return ", ".join([*told, *more])


@dataclass(slots=True)
class Refusals:
    """The newest refusal of each job, until a child is created or the spec changes."""

    store: Store
    _known: dict[str, tuple[int, Refusal]] = field(default_factory=dict)
    """Job uid -> generation, and why."""

    def of(self, job: FineTuneJob) -> Refusal | None:
        """Return why the API server refused a child of this spec."""
        generation, refusal = self._known.get(job.metadata.uid, (0, None))
        return refusal if generation == job.metadata.generation else None

    def remember(self, job: FineTuneJob, error: Forbidden | NameConflict, at: datetime) -> None:
        """Let the next pass see why a child could not be created, and who holds what it lacks."""
        refusal = refusal_of(error, at)
        if refusal.reason == WaitingReason.QUOTA_EXCEEDED and (holders := held_by(str(error), self._others(job))):
            refusal = replace(refusal, message=f"{refusal.message}; in use by {holders}")
        self._known[job.metadata.uid] = (job.metadata.generation, refusal)

    def forget(self, uid: str) -> None:
        """Drop what was remembered about a job."""
        self._known.pop(uid, None)

    def forgive(self, uid: str) -> bool:
        """Drop the refusal by a quota, which has changed; tell whether there was one."""
        _, refusal = self._known.get(uid, (0, None))
        if refusal is None or refusal.reason != WaitingReason.QUOTA_EXCEEDED:
            return False
        self.forget(uid)
        return True

    def _others(self, job: FineTuneJob) -> Iterable[Raw]:
        """Return the Pods of other jobs in the namespace that have not ended: a quota counts them, scheduled or not."""
        mine, namespace = job.metadata.uid, job.metadata.namespace
        pods = (pod for pod in self.store.of_kind("Pod") if pod.namespace == namespace and pod.owner_uid != mine)
        return (pod.raw for pod in pods if pod.phase not in ENDED)
