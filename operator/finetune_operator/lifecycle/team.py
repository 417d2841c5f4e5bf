"""The namespace's FineTunePolicy in a pass: what it forbids, whose turn it is, what is left to spend. Called by policies."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

from finetune_operator.api.reasons import Phase, TerminalReason, WaitingReason
from finetune_operator.api.status import FineTuneJob
from finetune_operator.lifecycle.money import spent_gpu_seconds, spent_usd
from finetune_operator.lifecycle.observation import Team
from finetune_operator.lifecycle.step import Step, fail, say
from finetune_operator.lifecycle.view import View
from finetune_operator.planning.governed import broken_rules, labelled, past_policy, violation
from finetune_operator.planning.layouts import counted

TURN_SECONDS = 10.0
"""Between two looks at whether it is a job's turn: they read nothing but memory."""

MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingLimit:
    """What a policy lets a running job use up, in GPU-seconds, and what to say when it has."""

    gpu_seconds: float
    message: str


def refuse_unpermitted(view: View) -> Step | None:
    """Refuse what the namespace's policy does not allow. Before the first attempt only: what runs is not taken back."""
    team = view.seen.team
    if team is None or view.status.attempts:
        return None
    broken = broken_rules(view.spec, team.policy)
    if not broken:
        return None
    return fail(view.writing(plan=None), TerminalReason.POLICY_VIOLATION, violation(team.policy, broken).message)


def policy_moved(view: View) -> bool:
    """Tell whether the plan is one that the policy does not allow any more."""
    return view.seen.team is not None and bool(past_policy(view.plan, view.seen.team.policy))


def for_preflight(view: View) -> FineTuneJob:
    """Return the job with the labels that the policy wants on its Pods."""
    if view.seen.team is None:
        return view.job
    spec = view.spec.model_copy(update={"pod_metadata": labelled(view.spec.pod_metadata, view.seen.team.policy)})
    return view.job.model_copy(update={"spec": spec})


def waits_for_its_turn(view: View) -> Step | None:
    """Wait while the other jobs of the namespace have what the policy lets them have together."""
    team = view.seen.team
    message = held_back(view, team) if team is not None else ""
    if team is None or not message:
        return None
    step = say(view, Phase.PLANNED, WaitingReason.POLICY_LIMIT, f"{message} of {team.policy.owner}")
    return replace(step, requeue_after=TURN_SECONDS)


def held_back(view: View, team: Team) -> str:
    """Return which limit keeps the job from starting now, in words; empty where none does."""
    limits, running = team.policy.spec.limits, team.running
    mine, used = view.plan.replicas * view.plan.gpus_per_replica, sum(gpus for _, gpus in running)
    if limits.concurrent_jobs is not None and len(running) >= limits.concurrent_jobs:
        are = "is" if len(running) == 1 else "are"
        return f"{counted(len(running), 'job')} {are} running: {named(running)}; limits.concurrentJobs is {limits.concurrent_jobs}"
    if limits.gpus is not None and used + mine > limits.gpus:
        return f"needs {counted(mine, 'GPU')}, and {used} are in use by {named(running)}; limits.gpus is {limits.gpus}"
    if limits.cost_per_month_usd is None:
        return ""
    left = Decimal(limits.cost_per_month_usd) - team.spent_usd
    expected = Decimal(view.plan.estimate.cost_usd) if not view.status.attempts else Decimal(0)
    if left <= 0 or expected > left:
        need = f", and the job is estimated at ${expected}" if expected else ""
        return f"${team.spent_usd:,.2f} has been spent this month{need}; limits.costPerMonthUSD is {limits.cost_per_month_usd}"
    return ""


def named(running: tuple[tuple[str, int], ...]) -> str:
    """Return jobs with their GPUs."""
    told = [
        f"{job} ({counted(gpus, 'GPU')})"
        for job, gpus in sorted(running, key=lambda one: (-one[1], one[0]))[:MOST_NAMED]
    ]
    more = [f"{len(running) - MOST_NAMED} more"] if len(running) > MOST_NAMED else []
    return ", ".join([*told, *more]) or "none"


def spending_limits(view: View) -> tuple[SpendingLimit, ...]:
    """Return what the policy lets a job that has begun use up."""
    team = view.seen.team
    if team is None:
        return ()
    limits, price, found = team.policy.spec.limits, Decimal(view.plan.pool.price_per_gpu_hour_usd), []
    so_far, gpus = spent_gpu_seconds(view.status), view.plan.replicas * view.plan.gpus_per_replica

    def within(left_usd: Decimal, message: str) -> SpendingLimit:
        return SpendingLimit(
            gpu_seconds=float(so_far + left_usd * 3600 / price), message=f"{message} of {team.policy.owner}"
        )

    if limits.cost_per_job_usd is not None and price > 0:
        left = Decimal(limits.cost_per_job_usd) - spent_usd(view.status)
        found.append(
            within(left, f"the job has spent ${limits.cost_per_job_usd}, the limit set by limits.costPerJobUSD")
        )
    if limits.cost_per_month_usd is not None and price > 0:
        left = Decimal(limits.cost_per_month_usd) - team.spent_usd
        message = f"the namespace has spent ${team.spent_usd:,.2f} this month, limits.costPerMonthUSD is {limits.cost_per_month_usd}"
        found.append(within(left, message))
    if limits.hours_per_job is not None:
        ran = counted(limits.hours_per_job, "hour")
        message = f"the job has run for {ran}, the limit set by limits.hoursPerJob of {team.policy.owner}"
        found.append(SpendingLimit(gpu_seconds=float(limits.hours_per_job * 3600 * gpus), message=message))
    return tuple(found)


def month_of(now: datetime) -> str:
    """Return the calendar month that money is counted in."""
    return now.astimezone(UTC).strftime("%Y-%m")
