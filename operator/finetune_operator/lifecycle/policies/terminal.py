"""The end: a job that has ended is freed of its children and never runs again; one whose result is published ends."""

from dataclasses import replace
from datetime import timedelta

from finetune_contract import TRAINED, Outcome

from finetune_operator.api.reasons import Phase, ProgressReason, TerminalReason
from finetune_operator.lifecycle.attempt_record import is_through, with_attempt
from finetune_operator.lifecycle.conditions import has_ended
from finetune_operator.lifecycle.exports import is_published, missing_exports
from finetune_operator.lifecycle.money import cost_status
from finetune_operator.lifecycle.observation import Child
from finetune_operator.lifecycle.policies.recheck import recheck
from finetune_operator.lifecycle.record import preflight_outcome
from finetune_operator.lifecycle.step import Step, say
from finetune_operator.lifecycle.synced import synced_by
from finetune_operator.lifecycle.times import after, timestamp
from finetune_operator.lifecycle.view import View, deletions

LAST_REPLICAS_SECONDS = 60
"""After replica 0 is through, the others have this long to end by themselves."""

ORPHAN = "orphan"
"""The finalizer of an object whose children the garbage collector takes its reference from, instead of deleting them."""


def clean_up_ended(view: View) -> Step | None:
    """Free what an ended job still holds: live Pods at once, finished ones and Services after their retention."""
    if not has_ended(view.status):
        return None
    policy, ended = view.spec.run_policy, view.status.completion_time or timestamp(view.now)
    free_at = after(ended, policy.pod_retention_seconds)
    ttl = None if synced_by(view.job) else policy.ttl_seconds_after_finished
    expires_at = None if ttl is None else after(ended, ttl)
    expired = expires_at is not None and view.now >= expires_at
    freed = view.now >= free_at
    again = recheck(view) if not expired else None
    if again is not None:
        return replace(
            again, requeue_after=soonest(again.requeue_after, view.seconds_until(expires_at) if expires_at else None)
        )
    later = [moment for moment in (free_at, expires_at) if moment is not None and moment > view.now]
    return Step(
        status=view.status,
        outlook=None,
        delete=everything(view) if freed else deletions(view.live_pods),
        delete_job=expired,
        requeue_after=view.seconds_until(min(later)) if later else None,
    )


def leaving(view: View) -> Step:
    """Free what a deleted job holds, although somebody's finalizer keeps it from going; nothing is started any more.

    Unless the user wants its Pods to stay: `kubectl delete --cascade=orphan`.
    """
    if has_ended(view.status):
        return Step(status=view.status, outlook=None, delete=deletions(view.live_pods))
    if ORPHAN in view.job.metadata.finalizers:
        return say(
            view,
            view.status.phase,
            ProgressReason.DELETING,
            "the job is being deleted and its Pods are left to themselves",
        )
    held = f"; finalizers that hold it: {', '.join(names)}" if (names := view.job.metadata.finalizers) else ""
    step = say(view, view.status.phase, ProgressReason.DELETING, f"the job is being deleted and its Pods stop{held}")
    return replace(step, delete=deletions(view.live_pods))


def soonest(*delays: float | None) -> float | None:
    """Return the shortest of the delays that are set."""
    return min((delay for delay in delays if delay is not None), default=None)


def everything(view: View) -> tuple[Child, ...]:
    """Return all children."""
    services = tuple(Child(kind="Service", name=name) for name in view.seen.services)
    return deletions(view.pods) + services


def record_success(view: View) -> Step | None:
    """End the job once its result is at the destination."""
    if is_published(view):
        return None if missing_exports(view) else succeed(view, *published(view))
    found = preflight_outcome(view)
    if not view.status.attempts and found is not None and is_published_already(found):
        return succeed(view, *published(view))
    return last_replicas(view) if view.attempt is not None and is_through(view) else None


def is_published_already(outcome: Outcome) -> bool:
    """Tell whether preflight found the result of this very run at the destination."""
    return outcome.outcome == "Succeeded" and outcome.reason == TerminalReason.ALREADY_PUBLISHED


def published(view: View) -> tuple[TerminalReason, str]:
    """Return how a result that is published came to be there, and a sentence about it."""
    if view.last_attempt is not None:
        return publication(view, view.last_attempt.number)
    if view.spec.merge_of is not None and view.status.export is not None:
        return TerminalReason.PUBLISHED, described(view)
    found = preflight_outcome(view)  # none where its Pod went while forms were exported
    where = view.spec.output.destination
    message = (
        found.message if found is not None else f"this run is already complete at {where}; nothing is trained again"
    )
    return TerminalReason.ALREADY_PUBLISHED, message


def publication(view: View, attempt: int) -> tuple[TerminalReason, str]:
    """Return how the result came to be there, and a sentence about it."""
    outcomes = (pod.outcome for pod in view.replicas(attempt) if pod.replica == 0)
    already = any(outcome is not None and is_published_already(outcome) for outcome in outcomes)
    reason = TerminalReason.ALREADY_PUBLISHED if already else TerminalReason.PUBLISHED
    return reason, described(view)


def described(view: View) -> str:
    """Return where the result is, and its further forms."""
    where = view.status.adapter_uri or (view.status.resolved or view.spec).output.destination
    unnamed = (
        "" if view.status.artifacts else "; the trainer did not report the artifact: see finetune-manifest.json there"
    )
    forms = [artifact.kind for artifact in view.status.artifacts[1:]]
    also = f", and as {' and '.join(forms)}" if forms else ""
    return f"published at {where}{also}{unnamed}"


def succeed(view: View, reason: TerminalReason, message: str) -> Step:
    """Return the step that ends the job well."""
    if view.last_attempt is not None:
        view = with_attempt(view, view.last_attempt.model_copy(update={"checkpoint_step": 0}))
    view = view.writing(
        completion_time=timestamp(view.now), retry_time=None, checkpoint=None, cost=cost_status(view.status)
    )
    return say(view, Phase.SUCCEEDED, reason, message, settled=True)


def last_replicas(view: View) -> Step:
    """Wait for the replicas that have not ended yet although replica 0 is through; do not wait for ever."""
    assert view.attempt is not None
    pods = view.replicas(view.attempt.number)
    ended = max((pod.finished_at for pod in pods if pod.finished_at is not None), default=view.now)
    patience = ended + timedelta(seconds=LAST_REPLICAS_SECONDS)
    live = tuple(pod for pod in pods if view.is_live(pod))
    left = any(pod.replica == 0 and pod.outcome is not None and pod.outcome.reason == TRAINED for pod in pods)
    done = "trained" if left else "published"
    message = f"{done}; waiting for the other replicas to exit"
    step = say(view, Phase.PUBLISHING, ProgressReason.PUBLISHING, message, settled=True)
    if view.now < patience:
        return replace(step, requeue_after=view.seconds_until(patience))
    return replace(step, delete=deletions(live))
