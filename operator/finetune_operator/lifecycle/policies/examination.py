"""Before a GPU is asked for: are the rules kept, are model, data and output in order, does a plan fit?"""

from dataclasses import replace
from datetime import timedelta

from finetune_contract import Outcome

from finetune_operator.api.reasons import ConditionType, Phase, ProgressReason, TerminalReason, WaitingReason
from finetune_operator.api.validation import violations
from finetune_operator.errors import JobError
from finetune_operator.lifecycle.conditions import find
from finetune_operator.lifecycle.ending_table import CLUSTERS_FAULTS
from finetune_operator.lifecycle.endings import TERMINAL_REASONS, Ending, ending
from finetune_operator.lifecycle.observation import Child, Refusal, SeenPod
from finetune_operator.lifecycle.policies.attempts import launch
from finetune_operator.lifecycle.quotas import quotas_moved
from finetune_operator.lifecycle.record import examined, preflight_pod_of
from finetune_operator.lifecycle.retry import (
    back_off_seconds,
    created_again,
    disrupted,
    disturbed,
    gave_up,
    undisturbed,
)
from finetune_operator.lifecycle.sizing import sized
from finetune_operator.lifecycle.step import Step, fail, say
from finetune_operator.lifecycle.team import for_preflight, policy_moved
from finetune_operator.lifecycle.times import moment, timestamp
from finetune_operator.lifecycle.view import View, deletions
from finetune_operator.lifecycle.waiting import (
    missing_claim,
    seconds_refused,
    standing_refusal,
    waiting,
    waits_for_removal,
)
from finetune_operator.manifests.preflight import needs, preflight_pod

MOST_VIOLATIONS = 5


def refuse_invalid(view: View) -> Step | None:
    """Refuse a spec that breaks rules between its fields. Before the first attempt only: later it is frozen."""
    if view.status.attempts or view.status.preflight is not None:
        return None
    broken = violations(view.spec)
    if not broken:
        return None
    more = f"; and {len(broken) - MOST_VIOLATIONS} more" if len(broken) > MOST_VIOLATIONS else ""
    return fail(view, TerminalReason.INVALID_SPEC, "; ".join(map(str, broken[:MOST_VIOLATIONS])) + more)


def refuse_shared_checkpoints(view: View) -> Step | None:
    """Refuse a job whose checkpoints would lie among another's, which would end the other one after hours of training."""
    if view.status.attempts or view.spec.plan_only or not view.seen.checkpoints_of:
        return None
    message = (
        f"job {view.seen.checkpoints_of}, which has not finished, keeps its checkpoints in {view.spec.checkpoint.destination}: "
        "set another checkpoint.destination, or delete this job and apply it again once that one has finished"
    )
    return fail(view, TerminalReason.OUTPUT_OCCUPIED, message)


def run_preflight(view: View) -> Step | None:
    """Run preflight for the current spec; what it examined for an older one is void."""
    if view.status.preflight is not None:
        return None
    step = examination(view)
    outdated = (pod for pod in view.pods if pod.role == "preflight")
    stale = tuple(pod for pod in outdated if pod.generation != view.status.preflight_generation)
    return step.also_deleting(deletions(stale))


def examination(view: View) -> Step:
    """Return where preflight stands and what comes next."""
    pod = preflight_pod_of(view)
    if pod is None:
        return start(view)
    if pod.kept and not rests(view):
        return say(view, Phase.PREFLIGHT, ProgressReason.EXAMINING, waits_for_removal(pod))
    if view.is_lost(pod):
        step = say(
            view,
            Phase.PREFLIGHT,
            ProgressReason.EXAMINING,
            f"deleting Pod {pod.name}: node {pod.node_name} is not responding",
        )
        return replace(step, delete=(Child(kind="Pod", name=pod.name, uid=pod.uid, grace_seconds=0),))
    if pod.deleting and view.status.retry_time is None:
        return say(view, Phase.PREFLIGHT, ProgressReason.EXAMINING, f"waiting for Pod {pod.name} to terminate")
    if pod.deleting:
        return resting(view)
    if not pod.finished:
        return examining(view, pod)
    return judged(view, pod)


def rests(view: View) -> bool:
    """Tell whether the next try is not due yet."""
    return view.status.retry_time is not None and view.now < moment(view.status.retry_time)


def start(view: View) -> Step:
    """Create the preflight Pod, unless something says to wait."""
    refusal = view.seen.refusal
    if refusal is not None and refusal.reason == "NameConflict":
        return fail(view, TerminalReason.NAME_CONFLICT, refusal.message)
    if (standing := standing_refusal(view)) is not None:
        return refused(view, standing)
    if rests(view):
        return resting(view)
    taken = [
        pod for pod in view.seen.taken if pod.role == "preflight" and pod.generation == view.status.preflight_generation
    ]
    if (later := created_again(view, taken)) is not None:
        step = say(view, Phase.PENDING, WaitingReason.BACK_OFF, f"preflight: {later[1]}")
        return replace(step, requeue_after=view.seconds_until(later[0]))
    view = view.writing(retry_time=None)
    manifest = preflight_pod(
        for_preflight(view),
        view.status.preflight_generation,
        image=view.seen.settings.preflight_image,
        avoided=tuple(view.status.refused_nodes),
        settings=view.seen.settings.pods,
    )
    if refusal is not None:
        # tried again: what was said holds until it is created, else the status would flicker with every try
        return replace(say(view, Phase.PENDING, refusal.reason, refusal.message), create=(manifest,))
    step = say(view, Phase.PREFLIGHT, ProgressReason.EXAMINING, "checking the model, the data and the output")
    return replace(step, create=(manifest,))


def resting(view: View) -> Step:
    """Wait for the next try. The Pod of the last one may be gone: what was said about it holds."""
    due = view.status.retry_time
    assert due is not None
    said = find(view.status, ConditionType.RECONCILING)
    message = (
        said.message if said is not None and said.reason == WaitingReason.BACK_OFF else f"preflight is retried at {due}"
    )
    step = say(view, Phase.PENDING, WaitingReason.BACK_OFF, message)
    return replace(step, requeue_after=view.seconds_until(moment(due)))


def refused(view: View, refusal: Refusal) -> Step:
    """Wait until a refused create is worth another try."""
    step = say(view, Phase.PENDING, refusal.reason, refusal.message)
    return replace(step, requeue_after=seconds_refused(view, refusal))


def examining(view: View, pod: SeenPod) -> Step:
    """Say what the preflight Pod does, or what it waits for."""
    if pod.phase == "Running" and not pod.node_silent:
        return say(view, Phase.PREFLIGHT, ProgressReason.EXAMINING, "checking the model, the data and the output")
    found = waiting((pod,), 1)
    if found.reason == WaitingReason.UNSCHEDULABLE and not missing_claim(pod.unschedulable):
        message = f"preflight: {found.message} It needs {needs(view.seen.settings.pods)}: add such a node, or free resources on one"
        return say(view, Phase.PREFLIGHT, found.reason, message)
    if found.reason != ProgressReason.STARTING:
        return say(view, Phase.PREFLIGHT, found.reason, f"preflight: {found.message}")
    return say(view, Phase.PREFLIGHT, ProgressReason.EXAMINING, "checking the model, the data and the output")


def judged(view: View, pod: SeenPod) -> Step:
    """Return what follows from a preflight that ended without a report: the user's turn, or another try."""
    refusal = unsupported(pod.outcome) if pod.outcome is not None else None
    if refusal is not None:
        return fail(view, TerminalReason(refusal.reason), refusal.message)
    why = ending(pod, spot=False)
    if isinstance(why.outcome, TerminalReason):
        return fail(view, why.outcome, why.message)
    return again(view, pod, why)


def unsupported(outcome: Outcome) -> JobError | None:
    """Return why the planner cannot size the model that preflight found."""
    if outcome.outcome != "Succeeded" or outcome.preflight is None:
        return None
    try:
        examined(outcome.preflight)
    except JobError as error:
        return error
    return None


def again(view: View, pod: SeenPod, why: Ending) -> Step:
    """Try preflight again after a pause, at most maxRetries times. Until then the Pod stays: why is said, and in its log."""
    if view.status.retry_time is None:
        tried = after_fault(view, why) if why.outcome in CLUSTERS_FAULTS else after_failure(view, why)
        if isinstance(tried, Step):
            return tried
        view = tried
    due = view.status.retry_time
    assert due is not None
    message = f"preflight failed ({why.outcome}: {why.message}) and is retried at {due}"
    step = say(view, Phase.PENDING, WaitingReason.BACK_OFF, message)
    if view.now < moment(due):
        return replace(step, requeue_after=view.seconds_until(moment(due)))
    return replace(step, delete=deletions((pod,)))


def after_failure(view: View, why: Ending) -> View | Step:
    """Count a preflight that failed, and set the time of the next try; fail where there were enough of them."""
    failures, most = view.status.attempts_without_progress + 1, view.spec.run_policy.max_retries
    if failures >= max(1, most):
        times = f"{failures} time{'s' if failures > 1 else ''}"
        message = f"preflight failed {times} (runPolicy.maxRetries is {most}), most recently with {why.outcome}: {why.message}"
        return fail(view, TerminalReason.RETRIES_EXHAUSTED, message)
    return undisturbed(paused(view, failures)).writing(attempts_without_progress=failures)


def after_fault(view: View, why: Ending) -> View | Step:
    """Set the time of the next try after a fault of the cluster, which does not count; give up after a day of them."""
    if gave_up(view.status.disrupted_since, view.now):
        message = disturbed(view.status.disruptions + 1, str(why.outcome), why.message)
        return fail(view, TerminalReason.RETRIES_EXHAUSTED, message)
    view = disrupted(view, why, view.now)
    return paused(view, view.status.disruptions)


def paused(view: View, times: int) -> View:
    """Return the view with the time of the next try, after so many in a row that failed."""
    pause = back_off_seconds(times, view.seen.settings.retry_back_off_seconds)
    return view.writing(retry_time=timestamp(view.now + timedelta(seconds=pause)))


def pin_plan(view: View) -> Step | None:
    """Pin a plan, and with it the first attempt unless only the plan is wanted. Quotas that changed make a plan void until then."""
    status = view.status
    if status.attempts:
        return None
    if status.plan is None or quotas_moved(view) or policy_moved(view):
        try:
            run = sized(view)
        except JobError as error:
            return fail(view.writing(plan=None), TERMINAL_REASONS[error.reason], error.message)
        view = view.writing(plan=run.plan, resolved=run.resolved)
    return plan_only(view) if view.spec.plan_only else launch(view)


def plan_only(view: View) -> Step:
    """Stop after the plan."""
    message = f"{view.plan.summary}: set spec.planOnly to false to start training"
    return say(view, Phase.PLANNED, ProgressReason.PLAN_ONLY, message, settled=True)
