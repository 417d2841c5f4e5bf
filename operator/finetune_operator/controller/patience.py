"""How long a status that only passes by is held back before it is written after all. Used by reconcile.

The busier the API server, the slower a job passes through its states, and the more each write would slow all of them.
So what tells little is held for a hundred times as long as writes take at present; where more jobs than a hundred are on their
way, for a write of each of them, since the next state of a job comes when all others have had their turn.
"""

import time
from dataclasses import dataclass, field

from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.controller.pace import Pace
from finetune_operator.lifecycle.passing import may_wait

SHORTEST_SECONDS = 1.0
"""A person hardly notices, and preflight of a cached model, or the start of a Pod on a free node, is over by then."""

LONGEST_SECONDS = 60.0
"""A thousand jobs that are created at once have their GPUs by then."""

FEWEST_WRITES = 100


@dataclass(slots=True)
class Patience:
    """When each job first had something to say that may wait."""

    pace: Pace
    _since: dict[str, float] = field(default_factory=dict)

    def left(self, job: FineTuneJob, status: FineTuneJobStatus) -> float:
        """Return the seconds for which a status is still held back; 0: it is to be written now."""
        uid = job.metadata.uid
        if status == job.status or not may_wait(job.status, status):
            self.forget(uid)
            return 0.0
        now = time.monotonic()
        left = self._since.setdefault(uid, now) + self.hold_seconds() - now
        if left <= 0:
            self.forget(uid)
        return max(0.0, left)

    def hold_seconds(self) -> float:
        """Return for how long such statuses are held back at present."""
        writes = max(FEWEST_WRITES, len(self._since))
        return min(max(SHORTEST_SECONDS, writes * self.pace.seconds), LONGEST_SECONDS)

    def forget(self, uid: str) -> None:
        """Hold nothing back for a job."""
        self._since.pop(uid, None)
