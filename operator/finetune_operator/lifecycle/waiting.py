"""Why Pods that exist do not run yet, and why Pods that should exist do not. Called by policies."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from finetune_operator.api.reasons import ProgressReason, WaitingReason
from finetune_operator.lifecycle.observation import Refusal, SeenPod
from finetune_operator.lifecycle.view import View

REFUSAL_BACK_OFF_SECONDS = 30
"""A quota changes when somebody finishes or an admin acts: asking more often only fills the audit log."""

JITTER_SECONDS = 10
IMAGE_REASONS = {
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
}

NO_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
"""The scheduler's words, about every node at once: no node would help."""

MISSING = {
    re.compile(r'serviceaccount "[^"]+" not found'): "spec.serviceAccountName",
    re.compile(r"no PriorityClass with name \S+ was found"): "spec.priorityClassName",
}
"""Words of the API server about what a Pod names and does not exist -> the field that names it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A reason with its sentence."""

    reason: WaitingReason | ProgressReason
    message: str


def jitter(key: str, most: int) -> int:
    """Return a number from 0 to `most` that differs from job to job and never for one key."""
    return zlib.crc32(key.encode()) % (most + 1)


def refused_until(uid: str, refusal: Refusal) -> datetime:
    """Return when a refused create is tried again. Two jobs that once took half a quota each must not meet at every try."""
    pause = REFUSAL_BACK_OFF_SECONDS + jitter(f"{uid} {refusal.at}", JITTER_SECONDS)
    return refusal.at + timedelta(seconds=pause)


def seconds_refused(view: View, refusal: Refusal) -> float:
    """Return the seconds until a refused create is tried again."""
    return view.seconds_until(refused_until(view.job.metadata.uid, refusal))


def standing_refusal(view: View) -> Refusal | None:
    """Return the refusal that still holds creating back."""
    refusal = view.seen.refusal
    return refusal if refusal is not None and view.now < refused_until(view.job.metadata.uid, refusal) else None


def counts_finished(message: str) -> bool:
    """Tell whether a Pod was refused by a quota on objects: it counts Pods that have ended, which hold nothing."""
    return "count/pods=" in message


def refusal_words(message: str) -> str:
    """Return what the API server says about a refused Pod, and what to do where a field names what does not exist."""
    if counts_finished(message):
        deleted = "those of this job are deleted now, those of finished jobs after runPolicy.podRetentionSeconds"
        return f"{message}; count/pods includes finished Pods: {deleted}"
    fields = (field for pattern, field in MISSING.items() if pattern.search(message))
    return next(
        (f"{message}: create it, or delete the job and apply it with another {field}" for field in fields), message
    )


def missing_claim(unschedulable: str) -> str:
    """Return what to do about a claim that does not exist; empty where the scheduler speaks of something else."""
    found = NO_CLAIM.search(unschedulable)
    return (
        f"PersistentVolumeClaim {found[1]} does not exist in this namespace: create it, or delete the job and apply it "
        "with another pvc:// location"
        if found else ""
    )  # fmt: skip


def waits_for_removal(pod: SeenPod) -> str:
    """Say what keeps the name of a deleted Pod from being used again."""
    return f"waiting for Pod {pod.name} to be removed; {pod.held_by}"


def waiting(pods: Sequence[SeenPod], wanted: int) -> Waiting:
    """Return why not all of the wanted Pods run: the kubelet's words, gates of others, the scheduler's words, an Event."""
    for pod in pods:
        if found := _container(pod) or _gated(pod):
            return found
    scheduled = sum(1 for pod in pods if pod.scheduled_at is not None)
    unschedulable = next((_unschedulable(pod) for pod in pods if pod.unschedulable), "")
    if wanted > 1 and 0 < scheduled < wanted:
        why = f": {unschedulable}" if unschedulable else ""
        return Waiting(WaitingReason.WAITING_FOR_GANG, f"{scheduled} of {wanted} Pods are scheduled{why}")
    if unschedulable:
        return Waiting(WaitingReason.UNSCHEDULABLE, missing_claim(unschedulable) or unschedulable)
    for pod in pods:
        if found := _node(pod) or _warned(pod):
            return found
    return Waiting(ProgressReason.STARTING, f"waiting for {wanted} Pod{'s' if wanted > 1 else ''} to start")


def _unschedulable(pod: SeenPod) -> str:
    """Return why no node takes a Pod: the scheduler knows those that exist, an autoscaler those that could."""
    return (
        f"{pod.unschedulable.rstrip('. ')}; the autoscaler says: {pod.autoscaler}"
        if pod.autoscaler
        else pod.unschedulable
    )


def _container(pod: SeenPod) -> Waiting | None:
    """Return what holds a container back that a kubelet has accepted."""
    if pod.finished or pod.waiting_reason in ("", "ContainerCreating", "PodInitializing"):
        return None
    who = f"container {pod.waiting_container} of Pod {pod.name}" if pod.waiting_container else f"Pod {pod.name}"
    what = f"{pod.waiting_reason}: {pod.waiting_message}" if pod.waiting_message else pod.waiting_reason
    if pod.waiting_reason in IMAGE_REASONS:
        return Waiting(WaitingReason.IMAGE_PULL_FAILED, f"{who}: {what}")
    return Waiting(WaitingReason.CANNOT_START, f"{who} cannot start yet: {what}")


def _gated(pod: SeenPod) -> Waiting | None:
    """Return whose scheduling gate holds a Pod; ours is lifted when all replicas exist."""
    if not pod.other_gates or pod.finished:
        return None
    several = "s" if len(pod.other_gates) > 1 else ""
    gates = ", ".join(pod.other_gates)
    return Waiting(
        WaitingReason.GATED,
        f"Pod {pod.name} is held by the scheduling gate{several} {gates}, which the operator did not set",
    )


def _node(pod: SeenPod) -> Waiting | None:
    """Return that a Pod's node does not answer."""
    if not pod.node_silent or pod.finished:
        return None
    return Waiting(WaitingReason.NODE_SILENT, f"node {pod.node_name} of Pod {pod.name} does not answer")


def _warned(pod: SeenPod) -> Waiting | None:
    """Return what the newest Warning Event says about a Pod that has waited for a while."""
    if not pod.warning or pod.finished or pod.phase == "Running":
        return None
    return Waiting(WaitingReason.CANNOT_START, f"Pod {pod.name} cannot start yet: {pod.warning}")


def unsettled(pods: Sequence[SeenPod]) -> Waiting | None:
    """Return why Pods that run are not to be counted on: a node that does not answer, a deletion by somebody else."""
    for pod in pods:
        if found := _node(pod):
            patience = "Kubernetes gives the Pod up after about 5 minutes, and the next attempt starts"
            return Waiting(found.reason, f"{found.message}: {patience}")
        if pod.deleting and not pod.finished:
            message = f"Pod {pod.name} is being deleted: the trainer saves a checkpoint if it can, and the next attempt goes on from it"
            return Waiting(ProgressReason.STOPPING, message)
    return None
