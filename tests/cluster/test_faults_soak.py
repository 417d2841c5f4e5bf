"""Jobs come, run and go, for a long time: the operator keeps nothing of them."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import linear_regression
from typing import Any

import pytest

from tests.cluster.client import Raw, eventually
from tests.cluster.plays import a_job
from tests.cluster.stories import SECONDS, WHOLE, Open

pytestmark = pytest.mark.cluster

JOBS = 2000 if WHOLE else 25
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
}
"""Memories of fixed size, which stay on purpose."""

OF_THE_CLUSTER = {
    "store.objects",
    "namespaces.states",
    "resync._versions",
    "_generations",
    "_watched",
    "_asked",
    "_tasks",
}
"""Entries for pools, kinds, namespaces and parts: as many after the jobs as before them."""


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
        created, started = 0, time.monotonic()
        while created < jobs:
            there = len(self.api.items(self.path))
            for _ in range(min(AT_ONCE - there, jobs - created)):
                self.api.create(self.path, self.job(created))
                created += 1
            if created > WARM_UP * jobs:
                self.samples.append(((time.monotonic() - started) / 60, self.measure()))
            threading.Event().wait(0.5)
        eventually(lambda: self.api.items(self.path) == [], "all jobs are gone", SECONDS)

    @staticmethod
    def job(number: int) -> Raw:
        return a_job(f"soak-{number}", runPolicy={"ttlSecondsAfterFinished": 0})


def test_nothing_is_left_of_jobs_that_came_and_went(curtain: Open):
    """After the last one is gone its collections are as before the first; a long run shows no slope."""
    stage = curtain()
    stage.operator.start()
    eventually(lambda: "ready jobs=" in stage.operator.text, "the operator is ready", SECONDS)
    before = stage.operator.maps()
    churn = Churn(stage.api, stage.ledger.paths[2], lambda: memory_mib(stage.operator.pid))
    churn.run(JOBS)
    eventually(lambda: stage.api.items(stage.ledger.paths[0]) == [], "all Pods are gone", SECONDS)
    stage.settle()

    def left() -> dict[str, int]:
        after = stage.operator.maps()
        return {
            name: size
            for name, size in after.items()
            if size > (BOUNDED[name] if name in BOUNDED else before[name] if name in OF_THE_CLUSTER else 0)
        }

    eventually(lambda: left() == {}, f"nothing is left: {left()}", SECONDS)
    assert stage.operator.starts == 1
    assert "Traceback" not in stage.operator.text
    if WHOLE:
        slope = linear_regression(*zip(*churn.samples, strict=True)).slope
        print(
            f"{JOBS} jobs in {churn.samples[-1][0]:.1f} min: {slope:.2f} MiB a minute, {churn.samples[-1][1]:.0f} MiB"
        )
        assert slope < MOST_MIB_A_MINUTE
