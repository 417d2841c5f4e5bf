"""Create jobs, all at once or at a steady rate, and note from outside when each reaches what."""

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

from tests.cluster.client import Client, Raw

CREATORS = 12
Marks = dict[str, Callable[[Raw], bool]]


@dataclass
class Stopwatch:
    """Notes when each job is first seen to have a mark, on a watch of its own."""

    client: Client
    path: str
    marks: Marks
    name_of: Callable[[Raw], str]
    seen: dict[str, dict[str, float]] = field(default_factory=dict)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self.seen = {mark: {} for mark in self.marks}
        version = self.client.get(f"{self.path}?limit=1")["metadata"]["resourceVersion"]
        self._thread = threading.Thread(target=self._watch, args=(version,), daemon=True)
        self._thread.start()
        return self

    def _watch(self, version: str) -> None:
        for event in self.client.watch(self.path, version, self._done.is_set):
            now, raw = time.monotonic(), event["object"]
            name = self.name_of(raw)
            for mark, test in self.marks.items():
                if name and name not in self.seen[mark] and test(raw):
                    self.seen[mark][name] = now

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=5)


def create(client: Client, path: str, jobs: Sequence[Raw], per_second: float = 0) -> dict[str, float]:
    """Create jobs, at a rate or as fast as it goes; return when each was sent."""
    sent: dict[str, float] = {}
    began = time.monotonic()

    def one(number: int) -> None:
        if per_second:
            time.sleep(max(0.0, began + number / per_second - time.monotonic()))
        sent[jobs[number]["metadata"]["name"]] = time.monotonic()
        client.create(path, jobs[number])

    with ThreadPoolExecutor(CREATORS) as creators:
        list(creators.map(one, range(len(jobs))))
    return sent


def between(before: dict[str, float], after: dict[str, float]) -> str:
    """Return p50 and p99 of the milliseconds from one moment of each job to another."""
    waits = sorted(1000 * (at - before[name]) for name, at in after.items() if name in before)
    if not waits:
        return "not seen"
    return f"{statistics.median(waits):,.0f} / {waits[min(len(waits) - 1, int(0.99 * len(waits)))]:,.0f} ms"
