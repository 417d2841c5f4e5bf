"""Which job gets the next pass. Fed by handlers, resync and passes themselves; emptied by the workers."""

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from finetune_operator.controller import metrics
from finetune_operator.errors import Conflict

log = logging.getLogger(__name__)

FIRST_BACK_OFF_SECONDS = 0.2
LONGEST_BACK_OFF_SECONDS = 60.0
CONFLICT_SECONDS = 0.05
"""After a Conflict the newer version is on its way to us: look again soon, but not at once."""

Work = Callable[[str], Awaitable[float | None]]
"""Makes one pass over a key; returns the seconds until the next one, None for: only on events."""


@dataclass(slots=True)
class WorkQueue:
    """Keys that need a pass.

    * A key is pending at most once: a thousand events about a job cost one pass.
    * One pass per key at a time; a key that is put while it is worked on gets another pass afterwards.
    * No put is lost: after it a pass begins, unless the queue is closed.
    * An immediate put overtakes a delayed one. A pass makes delayed puts from before it void: it returns its own.
    * A failing key is retried after 0.2 s, 0.4 s ... 1 min, jittered, whatever the others do; success forgets.
    * What is urgent overtakes what is not, and does not wait behind a hundred plans.
    * Closing ends the passes in progress and starts no more.
    * Passes that wait for nothing let everybody else have a turn in between: the lease, the probes, the watches.
    """

    name_of: Callable[[str], str] = str
    """What the log calls a key."""
    _ready: asyncio.PriorityQueue[tuple[int, int, str]] = field(default_factory=asyncio.PriorityQueue)
    """Rank, number and key; an entry whose number is not that of the key is void."""
    _pending: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Key -> rank and number of its entry."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _working: set[str] = field(default_factory=set)
    _again: dict[str, bool] = field(default_factory=dict)
    """Keys that were put while they are worked on, and whether that is urgent."""
    _timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _closed: bool = False

    def put(self, key: str, delay: float = 0, *, urgent: bool = False) -> None:
        """Ask for a pass over `key`, now or after `delay` seconds."""
        rank = 0 if urgent else 1
        if self._closed or (key in self._pending and self._pending[key][0] <= rank):
            return
        if delay > 0:
            self._put_later(key, delay)
            return
        self._cancel_timer(key)
        if key in self._working:
            self._again[key] = self._again.get(key, False) or urgent
            return
        if key not in self._pending:
            metrics.QUEUE_ADDS.inc()
        self._pending[key] = (rank, next(self._numbers))
        self._ready.put_nowait((*self._pending[key], key))
        metrics.QUEUE_DEPTH.set(len(self._pending))

    def _put_later(self, key: str, delay: float) -> None:
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + delay:
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_later(delay, self._due, key)

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self.put(key)

    def _cancel_timer(self, key: str) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()

    def forget(self, key: str) -> None:
        """Drop what is known about a key that will not come back."""
        self._cancel_timer(key)
        self._failures.pop(key, None)

    async def run(self, work: Work, workers: int) -> None:
        """Work until closed, with so many passes at a time."""
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._worker(work), name=f"worker {number}")

    async def _worker(self, work: Work) -> None:
        while True:
            *entry, key = await self._ready.get()
            if self._closed:
                return
            if self._pending.get(key) != tuple(entry):
                continue  # it was put once more, as urgent, and had its turn
            del self._pending[key]
            self._cancel_timer(key)
            self._working.add(key)
            self._idle.clear()
            metrics.QUEUE_DEPTH.set(len(self._pending))
            delay = await self._pass(work, key)
            self._working.discard(key)
            if not self._working:
                self._idle.set()
            if key in self._again:
                self.put(key, urgent=self._again.pop(key))
            elif delay is not None:
                self.put(key, delay)
            await asyncio.sleep(0)  # a queue that is not empty never waits

    async def _pass(self, work: Work, key: str) -> float | None:
        try:
            delay = await work(key)
        except Conflict as error:
            log.debug("job has changed; reconciling it again", extra={"job": self.name_of(key), "why": str(error)})
            return self._back_off(key, CONFLICT_SECONDS)
        except Exception as error:  # whatever fails for one job must not stop the others
            metrics.QUEUE_RETRIES.inc()
            delay = self._back_off(key, FIRST_BACK_OFF_SECONDS)
            log.warning(
                "reconciliation failed; retrying",
                extra={"job": self.name_of(key), "error": repr(error), "retry": round(delay, 1)},
            )
            log.debug("stack of the failed reconciliation", exc_info=error)
            return delay
        self._failures.pop(key, None)
        return delay

    def _back_off(self, key: str, first: float) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        seconds = min(LONGEST_BACK_OFF_SECONDS, first * 2.0 ** min(failures, 20))
        return seconds * random.uniform(0.8, 1.2)  # noqa: S311  # spreads retries; nothing secret

    async def close(self, seconds: float) -> bool:
        """Start no more passes and wait for those in progress; tell whether all ended in time."""
        self._closed = True
        for key in list(self._timers):
            self._cancel_timer(key)
        try:
            async with asyncio.timeout(seconds if self._working else 0.001):
                await self._idle.wait()
        except TimeoutError:
            pass
        return not self._working
