"""What a job runs by, as status has pinned it: manifests are made of this and of the job's identity."""

from dataclasses import dataclass

from finetune_operator.api.plan import Plan
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.resolved import ResolvedSpec
from finetune_operator.api.status import FineTuneJobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """Written before anything is created, and whole from then on."""

    preflight: PreflightStatus
    resolved: ResolvedSpec
    plan: Plan


def pinned(status: FineTuneJobStatus) -> Pinned:
    """Return what a planned job runs by."""
    assert status.preflight is not None
    assert status.resolved is not None
    assert status.plan is not None
    return Pinned(preflight=status.preflight, resolved=status.resolved, plan=status.plan)
