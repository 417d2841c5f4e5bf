"""What `kubectl describe` shows: one sentence when the phase or its reason changes, and one when an attempt ends."""

from collections.abc import Iterable
from typing import Literal

from finetune_operator.api.reasons import AttemptOutcome, ConditionType, Phase
from finetune_operator.api.status import AttemptStatus, FineTuneJobStatus
from finetune_operator.lifecycle.conditions import Outlook
from finetune_operator.lifecycle.observation import Event


def events(old: FineTuneJobStatus, new: FineTuneJobStatus, outlook: Outlook) -> tuple[Event, ...]:
    """Return what happened between two statuses."""
    changed = told(old) != told(new)
    kind: Literal["Normal", "Warning"] = "Warning" if outlook.phase == Phase.FAILED else "Normal"
    news = (Event(type=kind, reason=outlook.reason, message=outlook.message),) if changed else ()
    return tuple(ended(old, new)) + news


def told(status: FineTuneJobStatus) -> tuple[str, str]:
    """Return what the last event was about."""
    reasons = (item.reason for item in status.conditions if item.type == ConditionType.SUCCEEDED)
    return (status.phase.value, next(reasons, ""))


def ended(old: FineTuneJobStatus, new: FineTuneJobStatus) -> Iterable[Event]:
    """Yield one event per attempt that ended without a result; with one the job ends too, and says so."""
    open_before = {attempt.number for attempt in old.attempts or () if attempt.outcome is None}
    for attempt in new.attempts or ():
        if attempt.number in open_before and attempt.outcome not in (None, AttemptOutcome.SUCCEEDED):
            yield Event(
                type="Normal" if attempt.outcome == AttemptOutcome.SUSPENDED else "Warning",
                reason=attempt.outcome,
                message=sentence(attempt),
            )


def sentence(attempt: AttemptStatus) -> str:
    """Return how an attempt ended."""
    return (
        f"attempt {attempt.number + 1} stopped at step {attempt.last_step} (latest checkpoint: step {attempt.checkpoint_step}): "
        f"{attempt.message}"
    )
