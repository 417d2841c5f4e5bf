"""Another plan for a job that has trained nothing yet: its pool has no free nodes, or its layout ran out of GPU memory.

Called by policies. Once there is a checkpoint the layout stays: only the micro batch and activation checkpointing may change.
"""

from collections.abc import Collection

from finetune_contract import cost

from finetune_operator.api.plan import Plan
from finetune_operator.api.reasons import WaitingReason
from finetune_operator.api.status import ReplannedStatus
from finetune_operator.errors import JobError
from finetune_operator.lifecycle.money import spent_gpu_seconds, spent_usd
from finetune_operator.lifecycle.sizing import sized
from finetune_operator.lifecycle.view import View
from finetune_operator.lifecycle.waiting import missing_claim, waiting
from finetune_operator.planning.planner import PlannedRun

MOST_WARNINGS = 16


def is_untouched(view: View) -> bool:
    """Tell whether no attempt has made a step: then nothing depends on the layout yet."""
    return view.status.checkpoint is None and not any(one.last_step for one in view.status.attempts or ())


def may_fail_over(view: View) -> bool:
    """Tell whether the job may still move to another pool: it is allowed to, and no attempt has made a step."""
    return view.spec.resources.failover and is_untouched(view)


def is_out_of_stock(view: View, attempt: int) -> bool:
    """Tell whether Pods of an attempt wait for nodes of the pool, and for nothing else."""
    pods = view.replicas(attempt)
    refused = any(pod.unschedulable and not missing_claim(pod.unschedulable) for pod in pods if not pod.scheduled_at)
    return refused and waiting(pods, view.plan.replicas).reason in (
        WaitingReason.UNSCHEDULABLE,
        WaitingReason.WAITING_FOR_GANG,
    )


def elsewhere(view: View) -> PlannedRun | None:
    """Return the plan on a pool that was not tried yet, else on any but the present one; None where none fits."""
    for avoided in ({*tried(view), view.plan.pool.name}, {view.plan.pool.name}):
        if (run := without(view, avoided)) is not None:
            return run
    return None


def tried(view: View) -> tuple[str, ...]:
    """Return the pools that the job has left because they had no free nodes."""
    return tuple(view.status.replanned.pools) if view.status.replanned is not None else ()


def without(view: View, avoided: Collection[str]) -> PlannedRun | None:
    """Return the plan on all pools but these."""
    pools = tuple(pool for pool in view.seen.pools if pool.metadata.name not in avoided)
    try:
        return sized(view, pools=pools)
    except JobError:
        return None


def failed_over(view: View, run: PlannedRun) -> View:
    """Return the view with the plan on another pool pinned."""
    old = view.plan.pool
    warning = f"pool {old.name} had no free nodes for {old.provisioning_seconds} s: the job moved to pool {run.plan.pool.name}"
    left = [old.name] if run.plan.pool.name in tried(view) else [*tried(view), old.name]
    return replanned(view, run, warning, pools=left)


def larger(view: View) -> PlannedRun | None:
    """Return a plan for a run that needs more GPU memory than the smallest form of its layout has; None where none fits.

    It may shard or offload more, take more or larger GPUs, or the next method where spec.method is auto.
    """
    if view.status.checkpoint is not None:
        return None
    try:
        return sized(view, exceeded=view.plan)
    except JobError:
        return None


def enlarged(view: View, run: PlannedRun) -> View:
    """Return the view with the larger plan pinned."""
    warning = (
        f"{view.plan.summary} ran out of GPU memory even with micro batch 1 and activation checkpointing, before the first checkpoint: "
        "the estimates of this plan were raised by what was missing"
    )
    return replanned(view, run, warning, pools=list(tried(view)))


def replanned(view: View, run: PlannedRun, warning: str, *, pools: list[str]) -> View:
    """Pin another plan. What was spent so far was paid at the price of the old one, and trained nothing that was kept."""
    spent = spent_gpu_seconds(view.status)
    earlier = ReplannedStatus(pools=pools, gpu_seconds=spent, cost_usd=cost.amount(spent_usd(view.status)))
    plan: Plan = run.plan.model_copy(update={"warnings": [warning, *run.plan.warnings][:MOST_WARNINGS]})
    return view.writing(plan=plan, resolved=run.resolved, replanned=earlier)
