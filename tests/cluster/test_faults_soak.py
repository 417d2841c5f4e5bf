"""Jobs come, run and go, for a long time: the operator keeps nothing of them."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import linear_regression
from typing import Any

import pytest

from tests.cluster.client import Raw, eventually
from tests.cluster.plays import a_job
from tests.cluster.stories import SECONDS
from tests.cluster.theatre import Open

pytestmark = pytest.mark.cluster

JOBS = int(os.environ.get("FINETUNE_SOAK_JOBS", "25"))
"""`make soak` asks for 2,000."""

LONG = 1000
"""Of so many jobs the slope of the memory says something."""

AT_ONCE = 40
"""So many exist at the same time."""

WARM_UP = 0.25
"""What the first jobs cost is not counted: caches of fixed size fill, the allocator takes its arenas."""

MOST_MIB_A_MINUTE = 1.0

BOUNDED = {
    "store._deleted": 10_000,
    "store._departed": 300,
    "cluster.recorder._said": 10_000,
    "cluster.recorder._tokens": 10_000,
    "cluster.warnings._known": 1_000,
    "store.objects": 1,
    "asking._specs": 1,
    "_watched": 1,
    "resync._versions": 7,
    "store._kinds": 7,
    "_tasks": 2,
}
"""Memories of fixed size, and entries for the one pool, for kinds and for parts of the operator. Everything else is about jobs."""


def memory_mib(pid: int) -> float:
    """Return the memory that a process holds for itself."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


class Churn:
    """Creates jobs, a few at a time; each deletes itself when it has ended."""

    def __init__(self, api: Any, path: str, measure: Callable[[], float]) -> None:
        self.api, self.path, self.measure = api, path, measure
        self.samples: list[tuple[float, float]] = []

    def run(self, jobs: int) -> None:
        created, there, started = 0, 0, time.monotonic()
        while created < jobs or there:
            for _ in range(min(AT_ONCE - there, jobs - created)):
                self.api.create(self.path, self.job(created))
                created += 1
            there = len(self.api.items(self.path))
            if created > WARM_UP * jobs:
                self.samples.append(((time.monotonic() - started) / 60, self.measure()))
            threading.Event().wait(0.5)

    @staticmethod
    def job(number: int) -> Raw:
        return a_job(f"soak-{number}", runPolicy={"ttlSecondsAfterFinished": 0})


def test_nothing_is_left_of_jobs_that_came_and_went(curtain: Open):
    """After the last one is gone its collections are as before the first; a long run shows no slope."""
    stage = curtain()
    stage.operator.start()
    eventually(lambda: "ready jobs=" in stage.operator.text, "the operator is ready", SECONDS)
    stage.settle()
    before = stage.operator.maps()  # pools that other tests have left in this cluster, too
    churn = Churn(stage.api, stage.ledger.paths[2], lambda: memory_mib(stage.operator.pid))
    churn.run(JOBS)
    eventually(lambda: stage.api.items(stage.ledger.paths[0]) == [], "all Pods are gone", SECONDS)
    stage.settle()

    def left() -> dict[str, int]:
        sizes = stage.operator.maps().items()
        return {name: size for name, size in sizes if size > max(BOUNDED.get(name, 0), before.get(name, 0))}

    with suppress(AssertionError):
        eventually(lambda: not left(), "nothing is left of them", SECONDS)
    assert left() == {}
    assert stage.operator.starts == 1
    assert "Traceback" not in stage.operator.text
    if JOBS < LONG:
        return
    slope = linear_regression(*zip(*churn.samples, strict=True)).slope
    minutes, mib = churn.samples[-1]
    print(f"{JOBS} jobs in {minutes:.1f} min: {slope:.2f} MiB a minute, {mib:.0f} MiB at the end")
    assert slope < MOST_MIB_A_MINUTE
