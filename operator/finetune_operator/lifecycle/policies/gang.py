"""Runs on several nodes: all replicas are created behind a gate and released together, or taken down together.

Holding a few nodes while waiting for the others would block them for everybody. Called by attempts.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from finetune_operator.api.reasons import AttemptOutcome, Phase, ProgressReason
from finetune_operator.api.status import AttemptStatus
from finetune_operator.lifecycle.attempt_record import closed, with_attempt
from finetune_operator.lifecycle.endings import Ending
from finetune_operator.lifecycle.money import wasted_gpu_seconds
from finetune_operator.lifecycle.observation import Manifest, SeenPod
from finetune_operator.lifecycle.replanning import elsewhere, failed_over, is_out_of_stock, may_fail_over
from finetune_operator.lifecycle.step import Step, say
from finetune_operator.lifecycle.times import timestamp
from finetune_operator.lifecycle.view import View, deletions
from finetune_operator.lifecycle.waiting import jitter, seconds_refused, standing_refusal, waiting
from finetune_operator.manifests.children import children
from finetune_operator.manifests.pod_groups import pod_group

PAUSE_SECONDS = 60
"""Gangs that wait for each other's nodes are let go at different moments within a minute."""


def release(view: View, attempt: AttemptStatus) -> Step | None:
    """Lift the gates once all replicas exist; None where there is no gate left."""
    pods = view.replicas(attempt.number)
    if any(pod.deleting for pod in pods):
        return start_over(view, attempt)
    held_back = gated(pods)
    if not held_back:
        return None
    group = group_of(view, attempt, pods)
    if group and (refused := standing_refusal(view)) is not None:
        step = say(view, Phase.PLANNED, refused.reason, refused.message)
        return replace(step, requeue_after=seconds_refused(view, refused))
    message = f"all {view.plan.replicas} Pods of attempt {attempt.number + 1} are created and can be scheduled"
    return replace(say(view, Phase.PLANNED, ProgressReason.STARTING, message), create=group, ungate=held_back)


def group_of(view: View, attempt: AttemptStatus, pods: Iterable[SeenPod]) -> tuple[Manifest, ...]:
    """Return the PodGroup that another scheduler wants to see before the gates are lifted; creating it twice is the same as once."""
    if view.plan.pool.pod.pod_group is None:
        return ()
    zero = next(pod for pod in pods if pod.replica == 0)
    wanted = children(view.job, view.status, attempt.number, view.seen.settings.pods)
    first = next(each for each in wanted if each["metadata"]["name"] == zero.name and each["kind"] == "Pod")
    group = pod_group(view.job, view.status, attempt.number, first, zero.uid)
    return (group,) if group is not None else ()


def gated(pods: Iterable[SeenPod]) -> tuple[str, ...]:
    """Return the Pods whose gate is still there: releasing them may be cut short, and some may have a node by then."""
    return tuple(pod.name for pod in pods if pod.gated and not pod.deleting)


def start_over(view: View, attempt: AttemptStatus) -> Step:
    """Delete the replicas that have not started because one of them is being deleted; then all are created anew."""
    message = f"a Pod of attempt {attempt.number + 1} was deleted before it started: all Pods are recreated"
    step = say(view, Phase.PLANNED, ProgressReason.STARTING, message)
    return replace(step, delete=deletions(view.replicas(attempt.number)))


def deadline(view: View, attempt: AttemptStatus) -> datetime | None:
    """Return when all replicas must have a node; None for one replica that stays on its pool, which may wait as long as it likes."""
    pods = view.replicas(attempt.number)
    if attempt.running_time is not None or not pods or (view.plan.replicas == 1 and not may_fail_over(view)):
        return None
    patience = view.plan.pool.provisioning_seconds
    wait = patience + jitter(view.job.metadata.uid, patience // 10)
    return max(pod.created_at for pod in pods) + timedelta(seconds=wait)


def seconds_left(view: View, attempt: AttemptStatus) -> float | None:
    """Return the seconds to the deadline, None without one or after it."""
    due = deadline(view, attempt)
    return None if due is None or view.now >= due else view.seconds_until(due)


def is_overdue(view: View, attempt: AttemptStatus) -> bool:
    """Tell whether some replicas have held GPUs for too long while others find none, or one could find some elsewhere."""
    due = deadline(view, attempt)
    return due is not None and view.now >= due and (view.plan.replicas > 1 or moves(view, attempt))


def moves(view: View, attempt: AttemptStatus) -> bool:
    """Tell whether the job goes to another pool because this one has no nodes."""
    return may_fail_over(view) and is_out_of_stock(view, attempt.number) and elsewhere(view) is not None


def let_go(view: View, attempt: AttemptStatus) -> View:
    """Return the view with the attempt closed: its nodes are given back, and tried for again after a pause or elsewhere."""
    run = elsewhere(view) if moves(view, attempt) else None
    why = waiting(view.replicas(attempt.number), view.plan.replicas).message
    message = f"not all Pods were scheduled within {view.plan.pool.provisioning_seconds} s: {why}"
    ended = closed(view, attempt, Ending(replica=0, outcome=AttemptOutcome.NOT_SCHEDULED, message=message))
    pause = view.seen.settings.retry_back_off_seconds
    pause += jitter(f"{view.job.metadata.uid}/{attempt.number}", PAUSE_SECONDS)
    view = with_attempt(view, ended).writing(
        wasted_gpu_seconds=view.status.wasted_gpu_seconds + wasted_gpu_seconds(ended),
        retry_time=timestamp(view.now + timedelta(seconds=pause)) if run is None else None,
    )
    return view if run is None else failed_over(view, run)
