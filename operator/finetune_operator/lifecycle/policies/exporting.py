"""After training, when the GPUs are free: a Pod without GPUs makes the forms in output.exports of the published result.

The same Pod publishes the model that an attempt has left, and merges the adapters of a job with mergeOf, which has neither plan nor
attempt. It trains nothing, so it may be repeated: by itself after a failure, or by applying the job again.
"""

import math
from dataclasses import replace
from datetime import timedelta

from finetune_operator.api.locations import is_on_volume
from finetune_operator.api.plan import ExportPlan, PoolNodes
from finetune_operator.api.published import ExportStatus
from finetune_operator.api.reasons import (
    AttemptOutcome,
    ConditionType,
    Phase,
    ProgressReason,
    TerminalReason,
    WaitingReason,
)
from finetune_operator.api.resolved import ResolvedSpec
from finetune_operator.lifecycle.conditions import find
from finetune_operator.lifecycle.ending_table import CLUSTERS_FAULTS
from finetune_operator.lifecycle.endings import Ending, ending
from finetune_operator.lifecycle.exports import export_pod_of, is_handed_over, is_merging, is_published, missing_exports
from finetune_operator.lifecycle.observation import Child, SeenPod
from finetune_operator.lifecycle.retry import GROWTH, back_off_seconds, disrupted, disturbed, gave_up, undisturbed
from finetune_operator.lifecycle.step import Step, fail, say
from finetune_operator.lifecycle.times import moment, timestamp
from finetune_operator.lifecycle.view import View, deletions
from finetune_operator.lifecycle.waiting import seconds_refused, standing_refusal, waiting, waits_for_removal
from finetune_operator.manifests.export import export_pod, needs
from finetune_operator.planning.defaults import resolve
from finetune_operator.planning.exports import ModelToPublish, export_plan, model_of
from finetune_operator.planning.governed import offered
from finetune_operator.planning.merging import merge_plan, summary
from finetune_operator.planning.report import pool_nodes
from finetune_operator.planning.serving import cheapest_to_serve, served_model


def export_result(view: View) -> Step | None:
    """Make what is missing: the published model, then output.exports. Pass on where nothing is missing, or nothing is trained yet."""
    if not is_due(view):
        return None
    if is_merging(view) and view.spec.plan_only:
        message = f"{merge_summary(view)}: set spec.planOnly to false to merge them"
        return say(view, Phase.PLANNED, ProgressReason.PLAN_ONLY, message, settled=True)
    pod = export_pod_of(view)
    if pod is None:
        return start(view)
    if pod.kept:
        return exporting(view, waits_for_removal(pod))
    if view.is_lost(pod):
        step = exporting(view, f"deleting Pod {pod.name}: node {pod.node_name} is not responding")
        return replace(step, delete=(Child(kind="Pod", name=pod.name, uid=pod.uid, grace_seconds=0),))
    if pod.finished and not pod.deleting:
        return judged(view, pod)
    if pod.deleting:
        return exporting(view, f"waiting for Pod {pod.name} to terminate")
    return running(view, pod)


def is_due(view: View) -> bool:
    """Tell whether there is something to merge (once preflight has passed the adapters), to publish, or to export (of a result)."""
    if is_merging(view):
        return view.status.preflight is not None
    return is_handed_over(view) or (is_published(view) and bool(missing_exports(view)))


def merge_summary(view: View) -> str:
    """Return what merging takes."""
    assert view.status.preflight is not None
    return summary(view.spec, merge_plan(view.spec, view.status.preflight))


def exporting(view: View, message: str) -> Step:
    """Say what goes on."""
    reason = ProgressReason.EXPORTING
    if is_merging(view):
        reason = ProgressReason.MERGING
    elif is_handed_over(view):
        reason = ProgressReason.PUBLISHING
    return say(view, Phase.PUBLISHING, reason, message)


def what(view: View) -> str:
    """Say what is being made of what."""
    if is_merging(view):
        return f"{merge_summary(view)}. The result is compared with the base model before it is published"
    forms = " and ".join(missing_exports(view))
    if is_handed_over(view):
        return f"publishing the model{f', then making {forms} of it' if forms else ''}; no GPU is held"
    return f"making {forms} of the published result; no GPU is held"


def start(view: View) -> Step:
    """Create the Pod, unless something says to wait."""
    refusal = view.seen.refusal
    if refusal is not None and refusal.reason == "NameConflict":
        return fail(view, TerminalReason.NAME_CONFLICT, refusal.message)
    if (standing := standing_refusal(view)) is not None:
        step = say(view, Phase.PUBLISHING, standing.reason, standing.message)
        return replace(step, requeue_after=seconds_refused(view, standing))
    if view.live_pods:  # other replicas, or the last try: the memory is theirs until they are gone
        return replace(exporting(view, "waiting for other Pods to terminate"), delete=deletions(view.live_pods))
    export = view.status.export
    if export is not None and (due := view.status.retry_time) is not None and view.now < moment(due):
        return resting(view, due)
    export = export or first_try(view)
    view = view.writing(export=export, retry_time=None, resolved=view.status.resolved or resolved_merge(view))
    manifest = export_pod(view.job, view.status, export, missing_exports(view), view.seen.settings.pods)
    if refusal is not None:  # tried again: what was said holds until it is created
        return replace(say(view, Phase.PUBLISHING, refusal.reason, refusal.message), create=(manifest,))
    return replace(exporting(view, what(view)), create=(manifest,))


def first_try(view: View) -> ExportStatus:
    """Return what the Pod gets, pinned here: of the plan where there is one."""
    status, plan = view.status, needed(view)
    image = status.plan.image if status.plan is not None else view.seen.settings.trainer_image
    return ExportStatus(
        memory_gib=plan.memory_gib, ephemeral_gib=plan.ephemeral_gib, cpus=plan.cpus, image=image,
        serving_pool=serving_pool(view) if is_merging(view) else None,
    )  # fmt: skip


def needed(view: View) -> ExportPlan:
    """Return what merging, publishing and exporting take."""
    found = view.status.preflight
    assert found is not None
    assert found.architecture is not None
    if is_merging(view):
        return merge_plan(view.spec, found)
    plan = export_plan(
        missing_exports(view),
        architecture=found.architecture,
        model_bytes=found.model_bytes,
        adapter_bytes=sum(artifact.size_bytes for artifact in view.status.artifacts if artifact.kind == "adapter"),
        mounted=is_on_volume(view.spec.model.source),
        model=model_to_publish(view) if is_handed_over(view) else None,
    )
    assert plan is not None
    return plan


def model_to_publish(view: View) -> ModelToPublish:
    """Return the sizes of the model that an attempt has left."""
    found, resolved = view.status.preflight, view.status.resolved
    assert found is not None
    assert found.architecture is not None
    assert resolved is not None
    return model_of(resolved, view.plan.zero_stage, found.architecture, found.model_bytes, found.model_dtype)


def serving_pool(view: View) -> PoolNodes | None:
    """Return the pool that serves the merged adapter: the cheapest that holds its model, of those that the policy allows."""
    found, team = view.status.preflight, view.seen.team
    assert found is not None
    assert found.architecture is not None
    allowed = view.seen.pools if team is None else offered(view.seen.pools, team.policy)
    pool = cheapest_to_serve(served_model(found.architecture), allowed)
    return pool_nodes(pool) if pool is not None else None


def resolved_merge(view: View) -> ResolvedSpec | None:
    """Return the spec with its defaults, for a job that merges: no planner fills them in."""
    found = view.status.preflight
    if not is_merging(view) or found is None or found.architecture is None:
        return None
    return resolve(view.spec, method="lora", architecture=found.architecture, preflight=found)


def running(view: View, pod: SeenPod) -> Step:
    """Say what the Pod does, or what it waits for."""
    if pod.phase == "Running" and not pod.node_silent:
        return exporting(view, what(view))
    found = waiting((pod,), 1)
    if found.reason == ProgressReason.STARTING:
        return exporting(view, what(view))
    assert view.status.export is not None
    room = (
        f" It needs {needs(view.status.export, view.seen.settings.pods)}"
        if found.reason == WaitingReason.UNSCHEDULABLE
        else ""
    )
    kind = "publishing the model" if is_handed_over(view) else "export"
    return say(view, Phase.PUBLISHING, found.reason, f"{kind}: {found.message}{room}")


def judged(view: View, pod: SeenPod) -> Step:
    """Return what follows from a Pod that ended and left something missing: the user's turn, or another try."""
    why = ending(pod, spot=False)
    if why.is_users or why.outcome == AttemptOutcome.SUCCEEDED:
        return give_up(view, why.message)
    return again(view, pod, why)


def give_up(view: View, message: str) -> Step:
    """End the job: what was trained stays published, or in the checkpoints."""
    if is_merging(view):
        return fail(view, TerminalReason.MERGE_FAILED, f"the adapters could not be merged: {message}")
    if is_handed_over(view):
        checkpoint = view.status.checkpoint
        kept = f" {checkpoint.uri}" if checkpoint is not None else ""
        return fail(
            view,
            TerminalReason.PUBLISH_FAILED,
            f"the model could not be published: {message}. Once the cause is corrected, delete the job, without its checkpoints, and apply "
            f"it again: it continues from its last checkpoint{kept} and publishes the model",
        )
    where = view.status.adapter_uri or view.spec.output.destination
    return fail(
        view,
        TerminalReason.EXPORT_FAILED,
        f"{' and '.join(missing_exports(view))} could not be made: {message}. The result is published at {where}; once the cause is "
        "corrected, delete the job and apply it again: nothing is trained again",
    )


def again(view: View, pod: SeenPod, why: Ending) -> Step:
    """Try again after a pause, with more room where there was too little; at most maxRetries times."""
    if view.status.retry_time is None:
        tried = counted(view, why)
        if isinstance(tried, Step):
            return tried
        view = tried
    due = view.status.retry_time
    assert due is not None
    message = f"{name(view)} failed ({why.outcome}: {why.message}) and is retried at {due}"
    step = say(view, Phase.PUBLISHING, WaitingReason.BACK_OFF, message)
    if view.now < moment(due):
        return replace(step, requeue_after=view.seconds_until(moment(due)))
    export = view.status.export
    assert export is not None
    following = grown(export, why).model_copy(update={"number": export.number + 1})
    return replace(step, status=step.status.model_copy(update={"export": following}), delete=deletions((pod,)))


def name(view: View) -> str:
    """Return what the Pod does, as the subject of a sentence."""
    if is_merging(view):
        return "the merge"
    return "publishing the model" if is_handed_over(view) else "the export"


def counted(view: View, why: Ending) -> View | Step:
    """Count the failure and set the time of the next try. The cluster's faults do not count: a day of them ends it."""
    export, most = view.status.export, view.spec.run_policy.max_retries
    assert export is not None
    if why.outcome in CLUSTERS_FAULTS:
        if gave_up(view.status.disrupted_since, view.now):
            return give_up(view, disturbed(view.status.disruptions + 1, str(why.outcome), why.message))
        view = disrupted(view, why, view.now)
        return paused(view, view.status.disruptions)
    failures = export.failures + 1
    if failures > most:
        tries = "try" if failures == 1 else "tries"
        return give_up(
            view, f"{failures} {tries} failed (runPolicy.maxRetries is {most}), most recently: {why.message}"
        )
    return paused(undisturbed(view), failures).writing(export=export.model_copy(update={"failures": failures}))


def paused(view: View, times: int) -> View:
    """Return the view with the time of the next try."""
    pause = back_off_seconds(times, view.seen.settings.retry_back_off_seconds)
    return view.writing(retry_time=timestamp(view.now + timedelta(seconds=pause)))


def grown(export: ExportStatus, why: Ending) -> ExportStatus:
    """Return half as much again of what there was too little of."""
    fields = {AttemptOutcome.HOST_OUT_OF_MEMORY: "memory_gib", AttemptOutcome.STORAGE_FULL: "ephemeral_gib"}
    field = fields.get(AttemptOutcome(str(why.outcome)))
    return export if field is None else export.model_copy(update={field: math.ceil(GROWTH * getattr(export, field))})


def resting(view: View, due: str) -> Step:
    """Wait for the next try. The Pod of the last one is gone: what was said about it holds."""
    said = find(view.status, ConditionType.RECONCILING)
    message = (
        said.message
        if said is not None and said.reason == WaitingReason.BACK_OFF
        else f"{name(view)} is retried at {due}"
    )
    step = say(view, Phase.PUBLISHING, WaitingReason.BACK_OFF, message)
    return replace(step, requeue_after=view.seconds_until(moment(due)))
