"""Which failures something outside the spec may mend, and whether it has been. Called by record and policies."""

from finetune_operator.api.reasons import ConditionType
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.lifecycle.conditions import find, has_ended
from finetune_operator.lifecycle.ending_table import MENDABLE
from finetune_operator.lifecycle.observation import SeenPod

RECHECK_HOURS = 24


def may_mend(status: FineTuneJobStatus) -> bool:
    """Tell whether the job failed before its first attempt over something that may be mended outside the spec."""
    reason = find(status, ConditionType.SUCCEEDED)
    return has_ended(status) and not status.attempts and reason is not None and reason.reason in MENDABLE


def mended(status: FineTuneJobStatus, pod: SeenPod | None) -> bool:
    """Tell whether a failed job's preflight, run again, has found everything in order."""
    if pod is None or not pod.finished or pod.outcome is None or not may_mend(status):
        return False
    return pod.outcome.outcome == "Succeeded" and pod.outcome.preflight is not None
