"""First half of a pass: fold what was observed into the status, always. Called by decide before the policies.

Nothing here chooses anything. Read next: attempt_record (the running attempt), endings, money, results.
"""

from finetune_contract import Outcome, PreflightReport
from pydantic import ValidationError

from finetune_operator.api.plan import Plan, PlanSummary
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.reasons import ConditionType, ProgressReason, TerminalReason
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.errors import FinetuneError, JobError
from finetune_operator.lifecycle.attempt_record import record_attempt, record_published
from finetune_operator.lifecycle.conditions import Claim, has_ended, has_succeeded, set_conditions
from finetune_operator.lifecycle.exports import record_export
from finetune_operator.lifecycle.money import cost_status
from finetune_operator.lifecycle.observation import SeenPod
from finetune_operator.lifecycle.recheck import mended
from finetune_operator.lifecycle.results import preflight_status
from finetune_operator.lifecycle.sizing import fitted_again, sized
from finetune_operator.lifecycle.times import timestamp
from finetune_operator.lifecycle.view import View
from finetune_operator.manifests.digests import examined_digest
from finetune_operator.planning.models.architecture import architecture
from finetune_operator.planning.planner import PlannedRun


class PlanDiffers(FinetuneError):
    """What a job would run by now is not what it has run by."""


def record(view: View) -> View:
    """Return the view with everything observed written into its status."""
    view = fitted_again(begun(view))
    if has_ended(view.status):
        return view
    if is_lost(view.status):
        view = remade(asked_again(view))
    if is_lost(view.status):  # the policy `remake_plan` sees to it; without a plan nothing can be told about Pods
        return view
    view = record_preflight(view)
    if view.status.attempts:
        view = record_attempt(view)
        view = view.writing(cost=cost_status(view.status))
    return record_export(view)


def begun(view: View) -> View:
    """Start, or start again: an edit before the first attempt makes preflight and plan void, a mended cause the failure."""
    status = view.status
    digest = examined_digest(view.spec)
    again = mended(status, preflight_pod_of(view))
    if (
        status.attempts
        or status.export is not None
        or has_succeeded(status)
        or (status.spec_digest == digest and not again)
    ):
        return view
    fresh = FineTuneJobStatus(
        conditions=status.conditions,
        start_time=status.start_time or timestamp(view.now),
        spec_digest=digest,
        preflight_generation=status.preflight_generation if again else view.job.metadata.generation,
    )
    unknown = Claim(ConditionType.SUCCEEDED, "Unknown", ProgressReason.EXAMINING)
    generation = view.job.metadata.generation
    started = set_conditions(fresh, (unknown,), generation=generation, now=view.now) if has_ended(status) else fresh
    return View(job=view.job, status=started, seen=view.seen, now=view.now)


def record_preflight(view: View) -> View:
    """Keep what preflight found: the Pod may be gone in the next pass."""
    outcome = preflight_outcome(view)
    if outcome is None or outcome.outcome != "Succeeded" or view.status.preflight is not None:
        return view
    view = record_published(view, outcome)
    if outcome.preflight is None:
        return view
    try:
        found = found_by(view, outcome.preflight)
    except JobError:  # the policy `run_preflight` says so
        return view
    return view.writing(
        preflight=found,
        run_digest=outcome.preflight.run_digest,
        attempts_without_progress=0,
        disruptions=0,
        disrupted_since=None,
        retry_time=None,
    )


def is_lost(status: FineTuneJobStatus) -> bool:
    """Tell whether a job has had attempts by a plan that is not there any more: somebody has deleted its FineTunePlan."""
    return bool(status.attempts) and status.plan is None


def asked_again(view: View) -> View:
    """Return the view with the spec that preflight runs for again: the plan that is lost knew which it was."""
    status = view.status
    return view.writing(
        preflight_generation=status.preflight_generation or view.job.metadata.generation,
        spec_digest=status.spec_digest or examined_digest(view.spec),
    )


def remade(view: View) -> View:
    """Return the view with preflight and plan as they were, if both lead to the same run again."""
    try:
        found, run = planned_again(view)
    except PlanDiffers:
        return view
    return view.writing(preflight=found, plan=run.plan, resolved=run.resolved, unread=None) if run else view


def planned_again(view: View) -> tuple[PreflightStatus | None, PlannedRun | None]:
    """Return preflight and plan of a job whose plan is lost, nothing before preflight has run again. Raises PlanDiffers."""
    outcome, before = preflight_outcome(view), view.status.in_short
    if outcome is None or outcome.outcome != "Succeeded" or outcome.preflight is None or before is None:
        return None, None
    if outcome.preflight.run_digest != view.status.run_digest:
        raise PlanDiffers("preflight finds another model or other data than before, so that this would be another run")
    try:
        found = found_by(view, outcome.preflight)
    except JobError as error:
        raise PlanDiffers(error.message) from error
    return found, sized_as(view.writing(preflight=found), before)


def sized_as(view: View, before: Plan | PlanSummary) -> PlannedRun:
    """Return the plan that comes out as before at the price that status has pinned. Raises PlanDiffers.

    Where prices of other pools, or other pools, would lead elsewhere by now, it is the plan on the pool that the job runs on.
    """
    pools = tuple(as_pinned(pool, before) for pool in view.seen.pools)
    own = tuple(pool for pool in pools if pool.metadata.name == before.pool.name)
    why = ""
    for offered in (pools, own):
        try:
            run = sized(view, pools=offered)
        except JobError as error:
            why = why or error.message
            continue
        if layout(run.plan) == layout(before):
            return run
        why = why or f"the plan would be {in_words(run.plan)}, and it was {in_words(before)}"
    raise PlanDiffers(why)


def as_pinned(pool: GPUPool, before: Plan | PlanSummary) -> GPUPool:
    """Return the pool of a plan with the capacity and the price that it had then; others as they are."""
    if pool.metadata.name != before.pool.name:
        return pool
    then = {"capacity": before.pool.capacity, "price_per_gpu_hour_usd": before.pool.price_per_gpu_hour_usd}
    return pool.model_copy(update={"spec": pool.spec.model_copy(update=then)})


def layout(plan: Plan | PlanSummary) -> tuple[object, ...]:
    """Return what the Pods and the cost of an attempt follow from."""
    pool = plan.pool
    return plan.summary, plan.replicas, plan.gpus_per_replica, pool.name, pool.capacity, pool.price_per_gpu_hour_usd


def in_words(plan: Plan | PlanSummary) -> str:
    """Return the layout in words."""
    return f"{plan.summary} on pool {plan.pool.name} at ${plan.pool.price_per_gpu_hour_usd} per GPU-hour"


def found_by(view: View, report: PreflightReport) -> PreflightStatus:
    """Return what preflight found, and for which spec. Raises JobError where it is not a model we can plan for."""
    status = view.status
    return examined(report).model_copy(
        update={"generation": status.preflight_generation, "spec_digest": status.spec_digest}
    )


def examined(report: PreflightReport) -> PreflightStatus:
    """Return what preflight found, with the shape of the model. Raises JobError where it is not one we can plan for."""
    shape = architecture(report.model_config)
    try:
        return preflight_status(report, shape)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        remedy = "use a preflight image of the same version as the operator"
        message = f"the preflight report cannot be read ({where}: {first['msg']}): {remedy}"
        raise JobError(TerminalReason.MODEL_UNSUPPORTED, message) from error


def preflight_outcome(view: View) -> Outcome | None:
    """Return what the preflight Pod of the current spec had to say; None while it has not."""
    pod = preflight_pod_of(view)
    return pod.outcome if pod is not None and pod.finished else None


def preflight_pod_of(view: View) -> SeenPod | None:
    """Return the Pod that examines the current spec."""
    generation = view.status.preflight_generation
    pods = (pod for pod in view.pods if pod.role == "preflight" and pod.generation == generation)
    return next(pods, None)
