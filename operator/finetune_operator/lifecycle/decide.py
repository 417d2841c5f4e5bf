"""Decide what happens next to a job. Called by controller.reconcile; calls planning and manifests; touches nothing.

Two steps: `record` folds what is seen into the status, always; then the first policy with something to say chooses.
What is chosen is in the status before anything is created. Read next: record, policies, conditions.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from finetune_operator.api.reasons import Phase, WaitingReason
from finetune_operator.api.status import FineTuneJob
from finetune_operator.lifecycle.conditions import Outlook, observed, stated
from finetune_operator.lifecycle.events import events
from finetune_operator.lifecycle.observation import Decision, Event, FailedWrite, Observation
from finetune_operator.lifecycle.pod_groups import left_over
from finetune_operator.lifecycle.policies import POLICIES
from finetune_operator.lifecycle.policies.attempts import crowding, lingering, unlisted
from finetune_operator.lifecycle.policies.terminal import leaving
from finetune_operator.lifecycle.queueing import finished, outdated
from finetune_operator.lifecycle.record import record
from finetune_operator.lifecycle.step import Step
from finetune_operator.lifecycle.synced import kept_in_git
from finetune_operator.lifecycle.times import without_foreign_clocks
from finetune_operator.lifecycle.view import DEAD_NODE_SECONDS, View

TOLD_FAILURES = 2
"""One failed write is chance: the next pass repeats it."""


def decide(job: FineTuneJob, seen: Observation, now: datetime) -> Decision:
    """Return what to write, create and delete, given a job, what is seen of its children, and the time.

    Pure: the same input gives the same decision, and a decision that was carried out asks for nothing more.
    """
    seen = without_foreign_clocks(seen, now)
    view = record(View(job=job, status=job.status, seen=seen, now=now))
    step = leaving(view) if job.metadata.deletion_timestamp is not None else chosen(view)
    step = step.also_deleting(lingering(replace(view, status=step.status)))
    if step.outlook is None:
        ended = replace(view, status=step.status)
        step = step.also_deleting(outdated(ended)).also_deleting(left_over(ended))
        return replace(decision_of_ended(job, step), events=failures(seen.failed_write), finish=finished(ended))
    outlook = kept_in_git(job, hindered(step.outlook, seen.failed_write))
    status = stated(step.status, outlook, job, now)
    after = View(job=job, status=status, seen=seen, now=now)
    return Decision(
        status=status,
        create=step.create,
        ungate=step.ungate,
        delete=step.also_deleting((*unlisted(after), *crowding(after), *outdated(after), *left_over(after))).delete,
        finish=finished(after),
        events=events(job.status, status, outlook),
        requeue_after=wake_up(after, step),
    )


def chosen(view: View) -> Step:
    """Return the step of the first policy that has something to say."""
    steps = (policy(view) for policy in POLICIES)
    return next(step for step in steps if step is not None)


def hindered(outlook: Outlook, failed: FailedWrite | None) -> Outlook:
    """Say what the API server does not let us do, once it has failed twice: until it works nothing else will change."""
    if failed is None or failed.times < TOLD_FAILURES or outlook.phase in (Phase.FAILED, Phase.SUCCEEDED):
        return outlook
    message = f"{failed.sentence} (in the meantime: {outlook.message})"
    return replace(outlook, reason=str(WaitingReason.WRITE_FAILED), message=message, settled=False)


def failures(failed: FailedWrite | None) -> tuple[Event, ...]:
    """Return the Event about what cannot be written for an ended job, whose conditions stay as they are."""
    if failed is None or failed.times < TOLD_FAILURES:
        return ()
    return (Event(type="Warning", reason=str(WaitingReason.WRITE_FAILED), message=failed.sentence),)


def decision_of_ended(job: FineTuneJob, step: Step) -> Decision:
    """Return the decision about an ended job: its status stays, for whatever generation the spec has by now."""
    generation = job.metadata.generation
    current = step.status.observed_generation == generation
    return Decision(
        status=step.status if current else observed(step.status, generation),
        create=step.create,
        delete=step.delete,
        delete_job=step.delete_job,
        requeue_after=step.requeue_after,
    )


def wake_up(view: View, step: Step) -> float | None:
    """Return when to look again: when the policy asks for it, or when a Pod that is being deleted is given up."""
    due = [pod.delete_by for pod in view.live_pods if pod.delete_by is not None]
    waits = [view.seconds_until(moment + timedelta(seconds=DEAD_NODE_SECONDS)) for moment in due]
    if step.requeue_after is not None:
        waits.append(step.requeue_after)
    return min(waits, default=None)
