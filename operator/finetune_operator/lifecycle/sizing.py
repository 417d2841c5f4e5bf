"""The planner asked about a job as it stands. Called by record (does it fit by now?) and by the policy `pin_plan`."""

from collections.abc import Sequence

from finetune_operator.api.plan import Plan
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.reasons import ConditionType, ProgressReason, TerminalReason
from finetune_operator.errors import JobError
from finetune_operator.lifecycle.conditions import Claim, find, set_conditions
from finetune_operator.lifecycle.view import View
from finetune_operator.planning.governed import Offer, broken_rules, governed_plan, violation
from finetune_operator.planning.once import planned
from finetune_operator.planning.planner import METHODS, PlannedRun

MAY_FIT_LATER = (TerminalReason.DOES_NOT_FIT, TerminalReason.POLICY_VIOLATION)


def sized(view: View, *, pools: Sequence[GPUPool] | None = None, exceeded: Plan | None = None) -> PlannedRun:
    """Return the plan on these pools, or on all of this moment, within the namespace's quotas. Raises JobError, DoesNotFit among them.

    `exceeded` is a plan that ran out of GPU memory: what it was estimated to need was too little.
    """
    found, team, offered = view.status.preflight, view.seen.team, view.seen.pools if pools is None else pools
    assert found is not None
    assert found.architecture is not None

    def ask(offer: Offer) -> PlannedRun:
        assert found is not None
        assert found.architecture is not None
        return planned(
            offer.spec,
            architecture=found.architecture,
            preflight=found,
            pools=offer.pools,
            image=view.seen.settings.trainer_image,
            exceeded=exceeded,
            limits=view.seen.limits,
            methods=offer.methods,
            gpu_publish_seconds=view.seen.settings.gpu_publish_seconds,
        )

    if team is None:
        return ask(Offer(spec=view.spec, pools=offered, methods=METHODS))
    return governed_plan(view.spec, offered, team.policy, ask)


def refused(view: View) -> JobError | None:
    """Return why the job cannot run, as far as that is known before or after preflight."""
    team = view.seen.team
    if view.status.preflight is None:
        broken = broken_rules(view.spec, team.policy) if team is not None else ()
        return violation(team.policy, broken) if team is not None and broken else None
    try:
        sized(view)
    except JobError as error:
        return error
    return None


def fitted_again(view: View) -> View:
    """Open a job that did not fit, or was not allowed, where pools, quotas or the policy have changed the answer.

    Before the first attempt only, since a job that had one was planned. Everything else about the end stays as it is.
    """
    end = find(view.status, ConditionType.SUCCEEDED)
    if end is None or end.reason not in MAY_FIT_LATER or view.status.attempts:
        return view
    error = refused(view)
    if error is not None and (error.reason, error.message) == (end.reason, end.message):
        return view
    unknown = Claim(ConditionType.SUCCEEDED, "Unknown", ProgressReason.EXAMINING)
    generation = view.job.metadata.generation
    opened = set_conditions(view.status, (unknown,), generation=generation, now=view.now)
    return View(job=view.job, status=opened, seen=view.seen, now=view.now).writing(completion_time=None)
