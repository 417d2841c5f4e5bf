"""Whether an attempt that ended is followed by another one, when, and with which layout. Called by record and policies.

An attempt that moved the checkpoint forward costs nothing, whatever ended it. `maxRetries` attempts in a row that did
not end the job. The cluster's faults do not count: a day of nothing else ends it. What the user must change ends it at once.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from finetune_operator.api.plan import Plan
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.reasons import AttemptOutcome, TerminalReason
from finetune_operator.api.status import AttemptStatus
from finetune_operator.lifecycle.ending_table import CLUSTERS_FAULTS
from finetune_operator.lifecycle.endings import TERMINAL_REASONS, Ending
from finetune_operator.lifecycle.observation import SeenPod
from finetune_operator.lifecycle.replanning import larger
from finetune_operator.lifecycle.times import moment, timestamp
from finetune_operator.lifecycle.view import View

LONGEST_BACK_OFF_SECONDS = 600

PATIENCE_HOURS = 24
"""So long the cluster may stop one attempt after the other before the job gives up."""

MOST_REFUSED_NODES = 16

GROWTH = 1.5
"""What was too little is given half as much again: two such steps more than double it."""

ROOM = {
    AttemptOutcome.HOST_OUT_OF_MEMORY: ("memory_gib", "host memory"),
    AttemptOutcome.STORAGE_FULL: ("ephemeral_gib", "local disk"),
}
"""What an end says there was too little of: its field in the plan's host needs and in a pool's node, and its name."""

UNCOUNTED = {AttemptOutcome.SUCCEEDED, AttemptOutcome.SUSPENDED, AttemptOutcome.NOT_SCHEDULED}
"""Ends that say nothing about the run: they neither count nor reset the count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryVerdict:
    """What follows an attempt."""

    again: bool
    leaner: bool = False
    """The next attempt gets a layout that needs less GPU memory, or has more."""
    delay_seconds: int = 0
    reason: TerminalReason | None = None
    """How the job ends, where it does."""
    message: str = ""


def moved(attempt: AttemptStatus) -> bool:
    """Tell whether an attempt left a newer checkpoint than it started from."""
    return attempt.checkpoint_step > attempt.first_step


def counted(attempt: AttemptStatus, before: int) -> int:
    """Return the attempts in a row without a newer checkpoint, this one included."""
    if attempt.outcome in UNCOUNTED:
        return before
    if moved(attempt):
        return 0
    return before if attempt.outcome in CLUSTERS_FAULTS else before + 1


def disrupted(view: View, why: Ending, at: datetime) -> View:
    """Return the view with one more end that was the cluster's fault; the node that refused a Pod is remembered."""
    since = view.status.disrupted_since or timestamp(at)
    view = view.writing(disruptions=view.status.disruptions + 1, disrupted_since=since)
    known = view.status.refused_nodes
    if why.outcome != AttemptOutcome.NODE_REFUSED or not why.node_name or why.node_name in known:
        return view
    return view.writing(refused_nodes=[*known, why.node_name][-MOST_REFUSED_NODES:])


def undisturbed(view: View) -> View:
    """Return the view after an end that breaks a row of the cluster's faults."""
    return view.writing(disruptions=0, disrupted_since=None)


def gave_up(since: str | None, at: datetime) -> bool:
    """Tell whether the cluster's faults have gone on for too long."""
    return since is not None and at - moment(since) >= timedelta(hours=PATIENCE_HOURS)


def disturbed(times: int, outcome: str, message: str) -> str:
    """Say why a job gives up although nothing is wrong with it."""
    return (
        f"for {PATIENCE_HOURS} hours the cluster stopped every attempt ({times} in a row), most recently with {outcome}: "
        f"{message}"
    )


def back_off_seconds(without_progress: int, first: int) -> int:
    """Return the pause before the next attempt: none after progress, then doubling up to ten minutes."""
    if without_progress == 0:
        return 0
    return int(min(first * 2 ** min(without_progress - 1, 20), LONGEST_BACK_OFF_SECONDS))


def created_again(view: View, taken: Sequence[SeenPod]) -> tuple[datetime, str] | None:
    """Return when Pods that somebody deletes are created again, and why not at once; None where they may be now.

    Whoever deletes them may do so each time: without a pause the two would go on as fast as the API server can.
    """
    if not taken:
        return None
    name, times = Counter(pod.name for pod in taken).most_common(1)[0]
    pause = timedelta(seconds=back_off_seconds(times, view.seen.settings.retry_back_off_seconds))
    due = max(pod.created_at for pod in taken) + pause
    often = "once" if times == 1 else f"{times} times"
    what = f"Pod {name} was deleted {often} before it finished: find out what deletes Pods in this namespace"
    message = f"{what}; it is created again at {timestamp(due)}"
    return (due, message) if view.now < due else None


def verdict_on(view: View, attempt: AttemptStatus) -> RetryVerdict:
    """Return what follows an ended attempt, which the view's status counts already."""
    outcome, message, status = attempt.outcome or "", attempt.message or "", view.status
    without_progress, most = status.attempts_without_progress, view.spec.run_policy.max_retries
    if (terminal := TERMINAL_REASONS.get(outcome)) is not None:
        return RetryVerdict(again=False, reason=terminal, message=message)
    if outcome == AttemptOutcome.OUT_OF_MEMORY and leaner(view.plan) is None and larger(view) is None:
        return RetryVerdict(again=False, reason=TerminalReason.DOES_NOT_FIT, message=too_small(view.plan))
    if outcome in CLUSTERS_FAULTS and not moved(attempt):
        return after_fault(view, attempt)
    if outcome not in UNCOUNTED and not moved(attempt) and without_progress >= most:
        return RetryVerdict(
            again=False,
            reason=TerminalReason.RETRIES_EXHAUSTED,
            message=exhausted(attempt, without_progress=without_progress, max_retries=most),
        )
    if outcome == AttemptOutcome.OUT_OF_MEMORY:
        return RetryVerdict(again=True, leaner=True)
    if outcome == AttemptOutcome.SUSPENDED:
        return RetryVerdict(again=True)
    first = view.seen.settings.retry_back_off_seconds
    if outcome == AttemptOutcome.NOT_SCHEDULED:
        return RetryVerdict(again=True, delay_seconds=first)
    return RetryVerdict(again=True, delay_seconds=0 if moved(attempt) else back_off_seconds(without_progress, first))


def after_fault(view: View, attempt: AttemptStatus) -> RetryVerdict:
    """Return what follows an attempt that the cluster stopped: another one, after a pause, for a day."""
    status, ended = view.status, moment(attempt.end_time) if attempt.end_time else view.now
    if gave_up(status.disrupted_since, ended):
        message = disturbed(status.disruptions, attempt.outcome or "", attempt.message or "")
        return RetryVerdict(again=False, reason=TerminalReason.RETRIES_EXHAUSTED, message=message)
    pause = back_off_seconds(status.disruptions, view.seen.settings.retry_back_off_seconds)
    return RetryVerdict(again=True, delay_seconds=pause)


def exhausted(attempt: AttemptStatus, *, without_progress: int, max_retries: int) -> str:
    """Say why there is no further attempt."""
    return (
        f"{without_progress} attempt{'s in a row' if without_progress > 1 else ''} made no progress (runPolicy.maxRetries is "
        f"{max_retries}). Attempt {attempt.number + 1} failed with {attempt.outcome}: {attempt.message}. "
        "See `finetune logs`, fix the cause, then delete the job and apply it again"
    )


def too_small(plan: Plan) -> str:
    """Say that no leaner layout is left."""
    smaller = "" if plan.method == "qlora" else "use method qlora, "
    return (
        "the GPU ran out of memory even with micro batch 1 and activation checkpointing; "
        f"the plan estimated {plan.vram.total_gib} of {plan.vram.usable_gib} GiB: "
        f"lower training.sequenceLength, {smaller}or use a pool with more GPU memory, "
        "and apply the job under a new name with another output.destination"
    )


def leaner(plan: Plan) -> Plan | None:
    """Return the plan with half the micro batch and activation checkpointing; None where both are spent.

    The global batch, and with it what is learned, stays as it is.
    """
    if plan.micro_batch_size == 1 and plan.activation_checkpointing:
        return None
    rows = plan.micro_batch_size * plan.gradient_accumulation_steps
    size = next(size for size in range(max(1, plan.micro_batch_size // 2), 0, -1) if rows % size == 0)
    warning = (
        f"an attempt ran out of GPU memory with micro batch {plan.micro_batch_size}: the next one uses micro batch {size} "
        "and activation checkpointing. The memory estimate is still that of the original layout"
    )
    return plan.model_copy(
        update={
            "micro_batch_size": size,
            "gradient_accumulation_steps": rows // size,
            "activation_checkpointing": True,
            "warnings": [*plan.warnings, warning][-16:],
        }
    )


def roomier(plan: Plan, outcome: str, pools: Sequence[GPUPool]) -> Plan:
    """Return the plan with half as much again of what an attempt had too little of, at most what a node of the pool has.

    The same plan where the outcome asks for no room, or no more can be had.
    """
    node = next((pool.spec.node for pool in pools if pool.metadata.name == plan.pool.name), None)
    if outcome not in ROOM or node is None:
        return plan
    field, what = ROOM[AttemptOutcome(outcome)]
    had = getattr(plan.host, field)
    given = min(getattr(node, field), math.ceil(GROWTH * had))
    if given <= had:
        return plan
    warning = f"an attempt failed with {outcome} at {had} GiB of {what}: the next one gets {given} GiB"
    host = plan.host.model_copy(update={field: given})
    return plan.model_copy(update={"host": host, "warnings": [*plan.warnings, warning][-16:]})


def remedy(plan: Plan, outcome: str, pools: Sequence[GPUPool]) -> str:
    """Say what is done, or what to do, about an attempt that had too little room; empty for any other end."""
    if outcome not in ROOM:
        return ""
    field, what = ROOM[AttemptOutcome(outcome)]
    had, given = getattr(plan.host, field), getattr(roomier(plan, outcome, pools).host, field)
    if given > had:
        return f"it had {had} GiB of {what}; the next attempt gets {given} GiB"
    return (
        f"it had {had} GiB of {what}, all that a node of pool {plan.pool.name} has: "
        "delete the job and apply it again with a pool of larger nodes"
    )
