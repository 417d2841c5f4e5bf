"""Counts that are taken of all jobs now and then, for Prometheus. Called by process."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from prometheus_client import Gauge

from finetune_operator.api.reasons import AttemptOutcome, Phase, TerminalReason
from finetune_operator.controller import metrics
from finetune_operator.controller.clock import ServerClock
from finetune_operator.controller.store import Store
from finetune_operator.controller.stored import KINDS, Stored

INTERVAL_SECONDS = 10


async def keep_counting(store: Store, clock: ServerClock) -> None:
    """Count for ever."""
    while True:
        count_all(store.of_kind("FineTuneJob"), clock.now())
        count_use(store.of_kind("FineTuneJob"))
        await asyncio.sleep(INTERVAL_SECONDS)


def count_all(jobs: Iterable[Stored], now: datetime) -> None:
    """Set the gauges; what no job has any more has no sample any more."""
    phases: Counter[str] = Counter()
    near_budget: Counter[str] = Counter()
    waits: dict[str, float] = {}
    for job in jobs:
        phases[job.phase or "Pending"] += 1
        near_budget[job.namespace] += job.near_budget
        if job.waits_since:
            seconds = (now - datetime.fromisoformat(job.waits_since)).total_seconds()
            waits[job.namespace] = max(waits.get(job.namespace, 0.0), seconds)
    begin_counters(near_budget)
    show(metrics.JOBS, phases)
    show(metrics.NEAR_BUDGET, near_budget)
    show(metrics.LONGEST_WAIT, waits)


def count_use(jobs: Iterable[Stored]) -> None:
    """Set the gauges of what runs, waits and costs: a few samples for each namespace and pool."""
    running: Counter[tuple[str, str]] = Counter()
    waiting: Counter[str] = Counter()
    rates: dict[str, float] = {}
    for job in jobs:
        scheduled = job.running and not job.waits_since
        if scheduled:
            running[job.namespace, job.pool] += job.gpus
            rates[job.namespace] = rates.get(job.namespace, 0.0) + job.gpus * float(job.price_usd)
        elif job.phase in (Phase.PLANNED, Phase.QUEUED) and not job.plan_only:
            waiting[job.namespace] += job.gpus
    metrics.GPUS_RUNNING.clear()
    for (namespace, pool), gpus in running.items():
        metrics.GPUS_RUNNING.labels(namespace, pool).set(gpus)
    show(metrics.GPUS_WAITING, waiting)
    show(metrics.COST_RATE, rates)


def begin_counters(namespaces: Iterable[str]) -> None:
    """Give counters a sample of 0 before what they count happens: Prometheus' increase() does not see a series begin at 1."""
    for namespace in namespaces:
        for outcome in AttemptOutcome:
            metrics.ATTEMPTS.labels(namespace, outcome)
        for reason in TerminalReason:
            metrics.ENDED.labels(namespace, reason)
    for kind in KINDS:
        metrics.MISSED.labels(kind)
        metrics.RESTORES.labels(kind)


def show(gauge: Gauge, values: dict[str, int] | dict[str, float]) -> None:
    """Replace all samples of a gauge with one label."""
    gauge.clear()
    for label, value in values.items():
        gauge.labels(label).set(value)
