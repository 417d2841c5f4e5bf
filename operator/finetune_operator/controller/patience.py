"""How long a status that only passes by is held back before it is written after all. Used by reconcile."""

import time
from dataclasses import dataclass, field

from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.lifecycle.passing import may_wait

HOLD_SECONDS = 1.0
"""A person hardly notices, and preflight of a cached model, or the start of a Pod on a free node, is over by then."""


@dataclass(slots=True)
class Patience:
    """When each job first had something to say that may wait."""

    _since: dict[str, float] = field(default_factory=dict)

    def left(self, job: FineTuneJob, status: FineTuneJobStatus) -> float:
        """Return the seconds for which a status is still held back; 0: it is to be written now."""
        uid = job.metadata.uid
        if status == job.status or not may_wait(job.status, status):
            self.forget(uid)
            return 0.0
        now = time.monotonic()
        left = self._since.setdefault(uid, now) + HOLD_SECONDS - now
        if left <= 0:
            self.forget(uid)
        return max(0.0, left)

    def forget(self, uid: str) -> None:
        """Hold nothing back for a job."""
        self._since.pop(uid, None)
