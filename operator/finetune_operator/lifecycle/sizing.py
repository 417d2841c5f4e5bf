"""The planner asked about a job as it stands. Called by record (does it fit by now?) and by the policy `pin_plan`."""

from collections.abc import Sequence

from finetune_operator.api.plan import Plan
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.reasons import ConditionType, ProgressReason, TerminalReason
from finetune_operator.errors import DoesNotFit
from finetune_operator.lifecycle.conditions import Claim, find, set_condition
from finetune_operator.lifecycle.view import View
from finetune_operator.planning.once import planned
from finetune_operator.planning.planner import PlannedRun


def sized(view: View, *, pools: Sequence[GPUPool] | None = None, exceeded: Plan | None = None) -> PlannedRun:
    """Return the plan on these pools, or on all of this moment, within the namespace's quotas. Raises JobError, DoesNotFit among them.

    `exceeded` is a plan that ran out of GPU memory: what it was estimated to need was too little.
    """
    found = view.status.preflight
    assert found is not None
    assert found.architecture is not None
    return planned(
        view.spec,
        architecture=found.architecture,
        preflight=found,
        pools=view.seen.pools if pools is None else pools,
        image=view.seen.settings.trainer_image,
        exceeded=exceeded,
        limits=view.seen.limits,
    )


def fitted_again(view: View) -> View:
    """Open a job that did not fit where the pools have changed the answer: it fits, or it lacks something else.

    Before the first attempt only, since a job that had one was planned. Everything else about the end stays as it is.
    """
    end = find(view.status, ConditionType.SUCCEEDED)
    if end is None or end.reason != TerminalReason.DOES_NOT_FIT or view.status.attempts:
        return view
    try:
        sized(view)
    except DoesNotFit as refusal:
        if refusal.message == end.message:
            return view
    unknown = Claim(ConditionType.SUCCEEDED, "Unknown", ProgressReason.EXAMINING)
    generation = view.job.metadata.generation
    opened = set_condition(view.status, unknown, generation=generation, now=view.now)
    return View(job=view.job, status=opened, seen=view.seen, now=view.now).writing(completion_time=None)
