"""Which statuses may wait a moment before they are written: those that only say where a job is on its way.

Between two of its states a job passes through some that last for milliseconds. Each write of one costs the API server
as much as the start of a Pod, so that it is left out where the next one comes soon. Called by controller.reconcile.
"""

from finetune_operator.api.reasons import ConditionType, Phase
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.lifecycle.conditions import find

ON_ITS_WAY = (Phase.PENDING, Phase.PREFLIGHT, Phase.PLANNED, Phase.QUEUED)

FOLLOWS = frozenset({"phase", "conditions", "observed_generation", "start_time", "spec_digest", "preflight_generation"})
"""Fields that the next pass finds again from the spec and the Pods, if they were never written."""

GROWS = frozenset({"attempts", "cost"})


def may_wait(old: FineTuneJobStatus, new: FineTuneJobStatus) -> bool:
    """Tell whether nothing is lost if a status is never written: no decision is pinned in it, no end and no pause told."""
    if new.phase not in ON_ITS_WAY or old.phase not in ON_ITS_WAY or is_settled(new):
        return False
    return decided(old) == decided(new)


def is_settled(status: FineTuneJobStatus) -> bool:
    """Tell whether the job stays where it is until somebody acts."""
    reconciling = find(status, ConditionType.RECONCILING)
    return reconciling is not None and reconciling.status == "False"


def decided(status: FineTuneJobStatus) -> tuple[object, ...]:
    """Return what later passes build on: all but what they find again by themselves, nodes and GPU time included."""
    pinned = tuple(getattr(status, name) for name in FineTuneJobStatus.model_fields if name not in FOLLOWS | GROWS)
    attempts = tuple((each.number, each.outcome, each.message) for each in status.attempts or ())
    return pinned, attempts
