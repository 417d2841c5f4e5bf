"""What jobs use and have cost, by namespace, user, pool or model: the arithmetic of `finetune top` and `finetune cost`. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from finetune_operator.api.reasons import Phase
from finetune_operator.api.status import AttemptStatus, ReportedJob
from finetune_operator.cli.options import Group
from finetune_operator.cli.tables import aligned
from finetune_operator.lifecycle.conditions import has_ended
from finetune_operator.lifecycle.money import spent_usd
from finetune_operator.manifests.names import CREATED_BY_ANNOTATION

NONE = "-"
NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What some jobs use at a moment and have cost in a time."""

    running_jobs: int = 0
    running_gpus: int = 0
    waiting_jobs: int = 0
    waiting_gpus: int = 0
    usd_per_hour: Decimal = NOTHING
    usd: Decimal = NOTHING
    gpu_hours: Decimal = NOTHING
    jobs: int = 0
    """Jobs that cost something in the time."""

    def plus(self, other: "Use") -> "Use":
        """Return both together."""
        return Use(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})


KEYS: dict[Group, Callable[[ReportedJob], str]] = {
    "namespace": lambda job: job.metadata.namespace,
    "user": lambda job: job.metadata.annotations.get(CREATED_BY_ANNOTATION, NONE),
    "pool": lambda job: job.status.plan.pool.name if job.status.plan else NONE,
    "model": lambda job: job.spec.model.source,
}


def by_group(jobs: Iterable[ReportedJob], group: Group, since: datetime, now: datetime) -> dict[str, Use]:
    """Return what the jobs of each group use and have cost since a moment; the dearest group first."""
    found: dict[str, Use] = defaultdict(Use)
    for job in jobs:
        key = KEYS[group](job)
        found[key] = found[key].plus(use_of(job, since, now))
    return dict(sorted(found.items(), key=lambda pair: (-pair[1].usd, -pair[1].running_gpus, pair[0])))


def use_of(job: ReportedJob, since: datetime, now: datetime) -> Use:
    """Return what one job uses now and has cost since a moment."""
    plan, attempts = job.status.plan, job.status.attempts or []
    gpus = plan.replicas * plan.gpus_per_replica if plan is not None else 0
    under_way = bool(attempts) and attempts[-1].outcome is None
    runs = under_way and attempts[-1].running_time is not None
    waits = (
        plan is not None
        and not runs
        and not has_ended(job.status)
        and job.status.phase in (Phase.PLANNED, Phase.QUEUED)
        and not job.spec.plan_only
    )
    price = Decimal(plan.pool.price_per_gpu_hour_usd) if plan is not None else NOTHING
    usd = cost_since(job, since, now)
    return Use(
        running_jobs=int(runs),
        running_gpus=gpus if runs else 0,
        waiting_jobs=int(waits),
        waiting_gpus=gpus if waits else 0,
        usd_per_hour=gpus * price if runs else NOTHING,
        usd=usd,
        gpu_hours=usd / price if price else Decimal(sum(one.gpu_seconds for one in attempts)) / 3600,
        jobs=int(usd > 0),
    )


def cost_since(job: ReportedJob, since: datetime, now: datetime) -> Decimal:
    """Return the cost since a moment: of each listed attempt the part that lies after it.

    What is no longer listed has no times. It counts if the job began after the moment.
    """
    if job.status.plan is None:
        return NOTHING
    attempts = job.status.attempts or []
    listed = sum((Decimal(one.cost_usd) for one in attempts), NOTHING)
    earlier = max(NOTHING, spent_usd(job.status) - listed)
    began = job.status.start_time
    counted = earlier if began is not None and datetime.fromisoformat(began) >= since else NOTHING
    return counted + sum((Decimal(one.cost_usd) * share_since(one, since, now) for one in attempts), NOTHING)


def share_since(attempt: AttemptStatus, since: datetime, now: datetime) -> Decimal:
    """Return which part of an attempt's time lies after a moment."""
    start = datetime.fromisoformat(attempt.running_time or attempt.start_time)
    end = datetime.fromisoformat(attempt.end_time) if attempt.end_time else max(now, start)
    if start >= since or end <= start:
        return Decimal(1) if end >= since else NOTHING
    if end <= since:
        return NOTHING
    return Decimal((end - since).total_seconds()) / Decimal((end - start).total_seconds())


def month_begin(now: datetime) -> datetime:
    """Return when the calendar month (UTC) began."""
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def total(uses: Sequence[Use]) -> Use:
    """Return all together."""
    found = Use()
    for use in uses:
        found = found.plus(use)
    return found


def with_total(head: Sequence[str], found: dict[str, Use], row: Callable[[Use], tuple[str, ...]]) -> str:
    """Return a table of groups, with what they are together where there are several."""
    last = [("total", *row(total(list(found.values()))))] if len(found) > 1 else []
    return "\n".join(aligned([tuple(head), *((key, *row(use)) for key, use in found.items()), *last]))
