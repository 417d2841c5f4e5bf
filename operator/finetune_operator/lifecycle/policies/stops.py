"""Pauses: the user's own, and those of budget and deadline. The trainer saves, the Pods go, the status stays."""

import math
from dataclasses import dataclass, replace
from decimal import Decimal

from finetune_operator.api.reasons import AttemptOutcome, Phase, ProgressReason, WaitingReason
from finetune_operator.api.status import AttemptStatus, ReplannedStatus
from finetune_operator.lifecycle.attempt_record import closed, held, with_attempt
from finetune_operator.lifecycle.conditions import is_suspending
from finetune_operator.lifecycle.endings import Ending
from finetune_operator.lifecycle.exports import is_handed_over, is_published
from finetune_operator.lifecycle.money import cost_status, priced, spent_gpu_seconds
from finetune_operator.lifecycle.queueing import taken_back
from finetune_operator.lifecycle.results import PUBLISHING
from finetune_operator.lifecycle.step import Step, say
from finetune_operator.lifecycle.team import TURN_SECONDS, spending_limits
from finetune_operator.lifecycle.view import View, deletions
from finetune_operator.lifecycle.waiting import waiting

NOT_STARTED = "suspended before it started"


@dataclass(frozen=True, slots=True)
class Limit:
    """What a job may use up, in GPU-seconds, and what to say when it has."""

    reason: WaitingReason
    gpu_seconds: float
    message: str


def pause_on_request(view: View) -> Step | None:
    """Pause when asked to; a pause that has begun is finished before anything else happens."""
    if view.spec.suspend:
        message = "spec.suspend is true: set it to false to resume"
        return pause(view, ProgressReason.SUSPENDED, message + from_where(view))
    attempt = view.attempt
    if attempt is not None and is_suspending(view.status) and view.replicas(attempt.number):
        return drain(view)
    return None


def pause_for_queue(view: View) -> Step | None:
    """Give the GPUs back when Kueue takes the quota: the next attempt queues once the Pods are gone."""
    why = taken_back(view)
    return pause(view, WaitingReason.QUEUED, why) if why else None


def from_where(view: View) -> str:
    """Say what a resumed job starts from."""
    if is_handed_over(view):
        return " publishing the model"
    if is_published(view):
        return " the export"
    checkpoint = view.status.checkpoint
    return f" from step {checkpoint.step}" if checkpoint is not None else ""


def pause(view: View, reason: str, message: str) -> Step:
    """Return the step that takes the Pods down, and says so once they are gone."""
    attempt = view.attempt
    if attempt is not None and view.replicas(attempt.number):
        return drain(view)
    if attempt is not None:
        never = Ending(replica=0, outcome=AttemptOutcome.SUSPENDED, message=NOT_STARTED + because(attempt))
        view = with_attempt(view, closed(view, attempt, never))
    step = say(view, Phase.SUSPENDED, reason, message + cause_behind(view), settled=True)
    return replace(step, delete=deletions(view.live_pods))


def cause_behind(view: View) -> str:
    """Say what kept the last attempt from starting: a limit that was reached meanwhile is not why nothing was trained."""
    last = view.last_attempt
    never = (
        last is not None and last.outcome == AttemptOutcome.SUSPENDED and (last.message or "").startswith(NOT_STARTED)
    )
    return f"; attempt {last.number + 1} was {last.message}" if last is not None and never else ""


def because(attempt: AttemptStatus) -> str:
    """Return what was noted about an attempt that waits."""
    return f": {attempt.message}" if attempt.message else ""


def drain(view: View) -> Step:
    """Delete the live Pods with their own grace: the trainer saves a checkpoint when it is told to end."""
    view = noted(view)
    message = "suspending: the trainer saves a checkpoint before its Pods stop"
    step = say(view, Phase.TRAINING, ProgressReason.SUSPENDING, message)
    return replace(step, delete=deletions(view.live_pods))


def noted(view: View) -> View:
    """Keep what the Pods waited for, if none of them ran: once they are gone nobody can tell."""
    attempt = view.attempt
    if attempt is None or attempt.message:
        return view
    pods = view.replicas(attempt.number)
    if any(pod.phase == "Running" or pod.finished for pod in pods):
        return view
    found = waiting(pods, view.plan.replicas)
    if found.reason == ProgressReason.STARTING:
        return view
    return with_attempt(view, attempt.model_copy(update={"message": found.message}))


def pause_at_limit(view: View) -> Step | None:
    """Pause when the money or the running time is used up. A result that is being published is let through."""
    if not view.status.attempts or is_publishing(view):
        return None
    spent = spent_now(view)
    for limit in limits(view):
        if spent >= limit.gpu_seconds:
            step = pause(charged(view), limit.reason, limit.message)
            again = TURN_SECONDS if limit.reason == WaitingReason.POLICY_LIMIT else None
            return replace(step, requeue_after=again)
    return None


def charged(view: View) -> View:
    """Charge the attempt with what it has held up to now.

    By the times of its Pods, in whole seconds and of the node's clock, it may have held less: a job that was stopped at its limit would
    start again for the difference, and with a clock that is behind again and again.
    """
    attempt = view.attempt
    if attempt is None:
        return view
    now = math.ceil(held(view, attempt) * view.plan.gpus_per_replica)
    attempt = attempt.model_copy(update={"gpu_seconds": max(attempt.gpu_seconds, now)})
    view = with_attempt(view, priced(attempt, view.plan))
    return view.writing(cost=cost_status(view.status))


def is_publishing(view: View) -> bool:
    """Tell whether training is done and only the upload is left: stopping now would waste everything."""
    progress = view.status.progress
    return view.attempt is not None and progress is not None and progress.phase == PUBLISHING


def limits(view: View) -> tuple[Limit, ...]:
    """Return the limits that the job has, in GPU-seconds."""
    policy, found = view.spec.run_policy, []
    price = Decimal(view.plan.pool.price_per_gpu_hour_usd)
    if policy.budget is not None and price > 0:
        most = policy.budget.max_cost_usd
        message = f"the job has spent its budget of ${most}: raise runPolicy.budget.maxCostUSD to continue"
        earlier = view.status.replanned or ReplannedStatus()
        left = (Decimal(most) - Decimal(earlier.cost_usd)) * 3600 / price
        found.append(Limit(WaitingReason.BUDGET_EXCEEDED, float(earlier.gpu_seconds + left), message))
    if policy.active_deadline_seconds is not None:
        most_seconds = policy.active_deadline_seconds
        message = f"the job has run for {most_seconds} s, its limit: raise runPolicy.activeDeadlineSeconds to continue"
        found.append(Limit(WaitingReason.DEADLINE_EXCEEDED, float(most_seconds * all_gpus(view)), message))
    team = (Limit(WaitingReason.POLICY_LIMIT, each.gpu_seconds, each.message) for each in spending_limits(view))
    return (*found, *team)


def all_gpus(view: View) -> int:
    """Return the GPUs of the whole run."""
    return view.plan.replicas * view.plan.gpus_per_replica


def spent_now(view: View) -> float:
    """Return the GPU-seconds up to this moment; the figure in status lags up to a minute."""
    spent, attempt = spent_gpu_seconds(view.status), view.attempt
    if attempt is None:
        return spent
    live = held(view, attempt) * view.plan.gpus_per_replica
    return spent + max(0.0, live - attempt.gpu_seconds)


def seconds_to_limit(view: View) -> float | None:
    """Return when the first limit is reached if all GPUs stay in use; None without one."""
    left = [(limit.gpu_seconds - spent_now(view)) / all_gpus(view) for limit in limits(view)]
    return max(1.0, min(left)) if left else None
