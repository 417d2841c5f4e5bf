"""Jobs with a queue: an attempt's Pods are created when Kueue has admitted its Workload, and go when it takes the quota back.

The Workload of an attempt exists for as long as the attempt does: it is deleted when the last Pod is gone, which gives the quota back,
and the next attempt queues anew. Called by policies and decide; controller.queueing reads and writes Workloads.
"""

from dataclasses import replace
from typing import Any, Literal

from finetune_operator.api.reasons import Phase, WaitingReason
from finetune_operator.api.status import AttemptStatus
from finetune_operator.lifecycle.conditions import has_ended, has_succeeded
from finetune_operator.lifecycle.observation import Child, Finish, Manifest, SeenWorkload
from finetune_operator.lifecycle.step import Step, say
from finetune_operator.lifecycle.view import View
from finetune_operator.manifests.children import children
from finetune_operator.manifests.workload import admitted, priority, workload

LOOK_SECONDS = 5.0
"""Between two looks at a Workload that waits, or whose Pods run."""


def queue_of(view: View) -> str:
    """Return the LocalQueue of the job; empty without one."""
    resolved = view.status.resolved
    return (resolved.queue_name or "") if resolved is not None else ""


def workload_of(view: View, attempt: AttemptStatus) -> SeenWorkload | None:
    """Return the Workload of an attempt."""
    found = (each for each in view.seen.queue.workloads if each.attempt == attempt.number)
    return next(found, None)


def held_in_queue(view: View, attempt: AttemptStatus) -> Step | None:
    """Wait for Kueue's admission; None where there is no queue, or the attempt is admitted."""
    queue, seen = queue_of(view), view.seen.queue
    if not queue:
        return None
    if seen.unavailable:
        return waits(view, WaitingReason.QUEUE_UNAVAILABLE, f"spec.queueName is {queue}, but {seen.unavailable}")
    if (idle := deactivated(view)) is not None:
        message = (
            f"Workload {idle.name} is deactivated: set its spec.active to true, or delete it, to queue the job again"
        )
        return waits(view, WaitingReason.QUEUED, message)
    found = workload_of(view, attempt)
    if found is None:
        refusal = view.seen.refusal
        told = refusal.message if refusal is not None else f"entering queue {queue}"
        step = waits(view, WaitingReason.QUEUED, told)
        pod = next(each for each in planned_children(view, attempt) if each["kind"] == "Pod")
        return replace(step, create=(workload(view.job, view.status, attempt.number, pod),) if seen.read else ())
    if found.evicted:  # before any of its Pods ran: what is left of it goes, and a new one queues
        return replace(waits(view, WaitingReason.QUEUED, found.evicted), delete=(child(found),))
    wanted = priority(view.job, view.status).get("priorityClassRef", {}).get("name", "")
    if (
        not found.admitted and found.priority_class != wanted
    ):  # the label was changed: it queues anew, with the other priority
        step = waits(view, WaitingReason.QUEUED, f"queue {queue}: the priority class is now {wanted or 'none'}")
        return replace(step, delete=(child(found),))
    if not found.admitted:
        told = found.pending or "Kueue has not looked at the Workload yet"
        place = f", position {found.position}" if found.position else ""
        return waits(view, WaitingReason.QUEUED, f"queue {queue}{place}: {told}")
    return None


def deactivated(view: View) -> SeenWorkload | None:
    """Return a Workload that was deactivated: a new one beside it would undo what an administrator did."""
    return next((each for each in view.seen.queue.workloads if not each.active and not each.finished), None)


def waits(view: View, reason: WaitingReason, message: str) -> Step:
    """Return the step that waits in the queue."""
    return replace(say(view, Phase.QUEUED, reason, message), requeue_after=LOOK_SECONDS)


def planned_children(view: View, attempt: AttemptStatus) -> tuple[Manifest, ...]:
    """Return the children of an attempt as the plan has them."""
    return children(view.job, view.status, attempt.number, view.seen.settings.pods)


def on_admitted_nodes(view: View, attempt: AttemptStatus, manifests: tuple[Manifest, ...]) -> tuple[Manifest, ...]:
    """Return children on the nodes of the flavors that Kueue has chosen."""
    found = workload_of(view, attempt) if queue_of(view) else None
    if found is None:
        return manifests
    tolerations: tuple[dict[str, Any], ...] = tuple(dict(each) for each in found.tolerations)
    return tuple(admitted(each, dict(found.node_labels), tolerations) for each in manifests)


def taken_back(view: View) -> str:
    """Return why Kueue wants the quota of a running attempt back; empty where it does not."""
    attempt = view.attempt
    if attempt is None or not queue_of(view) or view.seen.queue.unavailable or not view.replicas(attempt.number):
        return ""
    found = workload_of(view, attempt)
    if found is None and view.seen.queue.lost:  # it would train on GPUs that Kueue gives to others
        return "the Workload of this attempt was deleted, and with it the quota: the job queues again"
    return f"Kueue evicted the job: {found.evicted}" if found is not None and found.evicted else ""


def outdated(view: View) -> tuple[Child, ...]:
    """Return the Workloads whose attempt has ended and has no Pod left: deleting them gives their quota back."""
    if not view.seen.queue.workloads:
        return ()
    last, ended = view.last_attempt, has_ended(view.status)
    current = view.attempt.number if view.attempt is not None else None
    live = {pod.attempt for pod in view.live_pods if pod.role == "trainer"}
    kept = last.number if ended and last is not None else current
    gone = (
        each for each in view.seen.queue.workloads if each.attempt != kept and each.attempt not in live and each.active
    )
    return tuple(child(each) for each in gone)


def finished(view: View) -> tuple[Finish, ...]:
    """Return the Workload of an ended job, which Kueue counts as finished once its Pods are gone."""
    last = view.last_attempt
    if last is None or not has_ended(view.status) or any(pod.role == "trainer" for pod in view.live_pods):
        return ()
    reason: Literal["Succeeded", "Failed"] = "Succeeded" if has_succeeded(view.status) else "Failed"
    found = (each for each in view.seen.queue.workloads if each.attempt == last.number and not each.finished)
    return tuple(Finish(name=each.name, reason=reason, message=last.message or reason) for each in found)


def child(found: SeenWorkload) -> Child:
    """Return what deletes a Workload."""
    return Child(kind="Workload", name=found.name, uid=found.uid)
