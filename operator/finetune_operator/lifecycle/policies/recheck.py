"""A job that failed in preflight over something outside its spec is examined again by itself: what was missing may arrive.

GitOps tools create Secrets, claims and buckets in any order. The job stays failed, with its reason, until a preflight
succeeds; then it goes on as if it had just been created. Bounded by a day. Called by terminal.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from finetune_operator.lifecycle.observation import Child, SeenPod
from finetune_operator.lifecycle.recheck import RECHECK_HOURS, may_mend
from finetune_operator.lifecycle.record import preflight_pod_of
from finetune_operator.lifecycle.step import Step
from finetune_operator.lifecycle.team import for_preflight
from finetune_operator.lifecycle.times import after, moment, timestamp
from finetune_operator.lifecycle.view import View, deletions
from finetune_operator.lifecycle.waiting import seconds_refused, standing_refusal
from finetune_operator.manifests.preflight import preflight_pod

FIRST_SECONDS, LONGEST_SECONDS = 30, 600


def recheck(view: View) -> Step | None:
    """Run preflight again for a failed job, now and then; None where nothing outside the spec could help."""
    ended = view.status.completion_time
    if view.spec.suspend or ended is None or not may_mend(view.status):
        return None
    if view.now >= moment(ended) + timedelta(hours=RECHECK_HOURS):
        return None
    due = moment(view.status.retry_time) if view.status.retry_time else after(ended, FIRST_SECONDS)
    step, pod = Step(status=view.status, outlook=None), preflight_pod_of(view)
    if view.now < due:
        return replace(step, requeue_after=view.seconds_until(due))
    if pod is None:
        return created(view, step)
    if pod.created_at < due:
        return replace(step, delete=deletions((pod,)))
    return followed(view, step, pod, moment(ended))


def created(view: View, step: Step) -> Step:
    """Create the preflight Pod; what the API server refuses is tried again as ever."""
    if (standing := standing_refusal(view)) is not None:
        return replace(step, requeue_after=seconds_refused(view, standing))
    status = view.status
    manifest = preflight_pod(
        for_preflight(view),
        status.preflight_generation,
        image=view.seen.settings.preflight_image,
        avoided=tuple(status.refused_nodes),
        settings=view.seen.settings.pods,
    )
    return replace(step, create=(manifest,))


def followed(view: View, step: Step, pod: SeenPod, ended: datetime) -> Step:
    """Wait for the Pod's end; if it failed too, set the time of the next try."""
    if view.is_lost(pod):
        return replace(step, delete=(Child(kind="Pod", name=pod.name, uid=pod.uid, grace_seconds=0),))
    if not pod.finished:
        return step
    pause = min(max(FIRST_SECONDS, (view.now - ended).total_seconds()), LONGEST_SECONDS)
    status = view.status.model_copy(update={"retry_time": timestamp(view.now + timedelta(seconds=pause))})
    return replace(step, status=status, requeue_after=pause)
