"""GPU-seconds of every attempt, times the pinned price; the wasted part apart. Called by record and the stop policies.

GPUs are paid for from the moment a Pod is scheduled until it has ended, whatever happens in between.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from finetune_contract import cost

from finetune_operator.api.plan import Plan, PlanSummary
from finetune_operator.api.reasons import AttemptOutcome
from finetune_operator.api.status import AttemptStatus, CostStatus, FineTuneJobStatus, ReportedStatus
from finetune_operator.lifecycle.observation import SeenPod
from finetune_operator.lifecycle.times import moment
from finetune_operator.manifests.cost_so_far import usd

LIVE_STEP_SECONDS = 60
"""A live figure grows in steps of a minute: a finer one would be a status write that nobody notices."""


def held_seconds(pods: Iterable[SeenPod], attempt: AttemptStatus, *, replicas: int, until: datetime) -> float:
    """Return the seconds for which an attempt's Pods held their GPUs, added up over the Pods.

    A Pod that has vanished is reckoned from the time when all of them were scheduled.
    """
    held = {pod.replica: _held(pod, until) for pod in pods}
    gone = replicas - len(held)
    since = moment(attempt.running_time) if attempt.running_time else until
    return sum(held.values()) + gone * max(0.0, (until - since).total_seconds())


def _held(pod: SeenPod, until: datetime) -> float:
    if pod.scheduled_at is None:
        return 0.0
    return max(0.0, ((pod.finished_at or until) - pod.scheduled_at).total_seconds())


def live_gpu_seconds(seconds: float, plan: Plan | PlanSummary) -> int:
    """Return GPU-seconds rounded down so that the figure changes once a minute."""
    minutes = int(seconds / plan.replicas // LIVE_STEP_SECONDS)
    return cost.gpu_seconds(plan.replicas * plan.gpus_per_replica, minutes * LIVE_STEP_SECONDS)


def final_gpu_seconds(seconds: float, plan: Plan | PlanSummary) -> int:
    """Return GPU-seconds as they are."""
    return cost.gpu_seconds(plan.gpus_per_replica, seconds)


def spent_gpu_seconds(status: ReportedStatus) -> int:
    """Return the GPU-seconds of all attempts, listed or not."""
    return status.archived_gpu_seconds + sum(attempt.gpu_seconds for attempt in status.attempts or ())


def waited_gpu_seconds(pods: Iterable[SeenPod], attempt: AttemptStatus, plan: Plan | PlanSummary) -> int:
    """Return the GPU-seconds for which replicas held GPUs while others had no node yet."""
    if attempt.running_time is None:
        return 0
    running = moment(attempt.running_time)
    waits = ((running - pod.scheduled_at).total_seconds() for pod in pods if pod.scheduled_at is not None)
    return final_gpu_seconds(sum(max(0.0, wait) for wait in waits), plan)


def wasted_gpu_seconds(attempt: AttemptStatus, *, waited: int = 0) -> int:
    """Return what an ended attempt spent on waiting and on steps that must be done again: all where it got nowhere."""
    done = attempt.last_step - attempt.first_step
    if done <= 0:
        return attempt.gpu_seconds
    safe = attempt.last_step if attempt.outcome == AttemptOutcome.SUCCEEDED else attempt.checkpoint_step
    lost = max(0, attempt.last_step - max(safe, attempt.first_step))
    return waited + round((attempt.gpu_seconds - waited) * lost / done)


def priced(attempt: AttemptStatus, plan: Plan | PlanSummary) -> AttemptStatus:
    """Return the attempt with its cost."""
    usd = cost.cost_usd(attempt.gpu_seconds, plan.pool.price_per_gpu_hour_usd)
    return attempt.model_copy(update={"cost_usd": usd})


def cost_status(status: FineTuneJobStatus) -> CostStatus:
    """Return the money spent so far; none without a plan."""
    if status.in_short is None:
        return CostStatus(cost_usd="0.00")
    return CostStatus(
        gpu_hours=cost.gpu_hours(spent_gpu_seconds(status)),
        cost_usd=cost.amount(spent_usd(status)),
        wasted_usd=cost.amount(_usd(status, status.wasted_gpu_seconds)),
    )


def spent_usd(status: ReportedStatus) -> Decimal:
    """Return the cost of all attempts, each at the price of its plan."""
    return _usd(status, spent_gpu_seconds(status))


def _usd(status: ReportedStatus, gpu_seconds: int) -> Decimal:
    """What earlier plans held has their price; they trained nothing that was kept, so all of it is part of the waste, too."""
    known = status.in_short
    assert known is not None
    return usd(status, gpu_seconds, known.pool.price_per_gpu_hour_usd)
