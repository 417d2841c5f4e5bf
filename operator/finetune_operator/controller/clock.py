"""The API server's clock, as its answers tell it. Every moment that is compared with one of the API's is read here.

Our own clock may be minutes off, and may be set while we run: deadlines of Pods would pass at once or never. Between
answers time is monotonic. Called by api, reconcile, cluster, pools.
"""

import functools
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

SECOND = 1.0
"""An answer's Date is cut to whole seconds: the server's clock shows it, or up to a second more."""


@functools.lru_cache(maxsize=2)
def seconds_of(date: str) -> float:
    """Return the moment that a Date names; all answers of a second have the same. Raises ValueError."""
    return parsedate_to_datetime(date).timestamp()


@dataclass(slots=True)
class ServerClock:
    """What the server's clock shows when our monotonic one shows 0; our own clock until a server has answered."""

    _zero: float | None = None

    def heard(self, date: str, sent: float, received: float) -> None:
        """Learn from the Date of an answer, and from when its request was sent and when it came, by time.monotonic()."""
        try:
            told = seconds_of(date)
        except ValueError:
            return
        earliest, latest = told - received, told + SECOND - sent
        self._zero = earliest if self._zero is None else min(max(self._zero, earliest), latest)

    def now(self) -> datetime:
        """Return the server's time."""
        if self._zero is None:
            return datetime.now(UTC)
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=self._zero + time.monotonic())
