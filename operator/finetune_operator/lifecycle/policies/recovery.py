"""A job with attempts whose FineTunePlan was deleted: preflight and plan are made again, and must come out the same.

Its Pods go on meanwhile: they have what they run by. Nothing is told about them until the plan is there again. Before the first
attempt the controller shows such a job as if it had never been planned.
"""

from dataclasses import replace

from finetune_operator.api.reasons import AttemptOutcome, TerminalReason
from finetune_operator.lifecycle.attempt_record import closed, record_published, with_attempt
from finetune_operator.lifecycle.endings import Ending
from finetune_operator.lifecycle.policies.examination import examination
from finetune_operator.lifecycle.policies.terminal import is_published_already, published, succeed
from finetune_operator.lifecycle.record import PlanDiffers, is_lost, planned_again, preflight_outcome
from finetune_operator.lifecycle.step import Step, fail
from finetune_operator.lifecycle.view import View


def remake_plan(view: View) -> Step | None:
    """Run preflight again; end the job where what follows from it is another run."""
    if not is_lost(view.status):
        return None
    gone = f"FineTunePlan {view.status.plan_name} was deleted"
    try:
        planned_again(view)
    except PlanDiffers as error:
        return fail(view, TerminalReason.PLAN_LOST, f"{gone}, and the job cannot continue without it: {error}")
    found = preflight_outcome(view)
    if found is not None and is_published_already(found):
        ended = completed(record_published(view, found))
        return succeed(ended, *published(ended))
    step = examination(view)
    assert step.outlook is not None
    told = f"{gone}, so preflight and plan are made again: {step.outlook.message}"
    return replace(step, outlook=replace(step.outlook, message=told))


def completed(view: View) -> View:
    """Return the view with its attempt ended: it has published what preflight found."""
    attempt = view.attempt
    if attempt is None:
        return view
    return with_attempt(view, closed(view, attempt, Ending(replica=0, outcome=AttemptOutcome.SUCCEEDED, message="")))
