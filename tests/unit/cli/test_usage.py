"""GPUs and dollars by namespace, user, pool and model: what `finetune top` and `finetune cost` add up."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import typer
from finetune_operator.api.status import AttemptStatus, FineTuneJob
from finetune_operator.cli.cost import moment_of
from finetune_operator.cli.usage import by_group, cost_since, month_begin, total, use_of

from tests.unit.lifecycle.lifecycle_builders import NOW, a_job, a_pool, pinned_status

FEBRUARY = datetime(2026, 2, 2, 12, tzinfo=UTC)


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def an_attempt(hours: float, *, ended: bool = True, begin: datetime = NOW, number: int = 0) -> AttemptStatus:
    """Return an attempt on one GPU at 3.60 USD an hour."""
    values: dict[str, Any] = {"outcome": "Succeeded", "end_time": text(begin + timedelta(hours=hours))} if ended else {}
    return AttemptStatus(
        number=number, start_time=text(begin), running_time=text(begin), gpu_seconds=int(hours * 3600),
        cost_usd=f"{hours * 3.6:.2f}", **values,
    )  # fmt: skip


def with_attempts(*attempts: AttemptStatus, phase: str = "Training", user: str = "", **meta: str) -> FineTuneJob:
    job = a_job()
    status = pinned_status(job, a_pool()).model_copy(
        update={"attempts": list(attempts), "phase": phase, "start_time": text(NOW)}
    )
    annotations = {"finetune.dev/created-by": user} if user else {}
    metadata = job.metadata.model_copy(update={"annotations": annotations, **meta})
    return job.model_copy(update={"status": status, "metadata": metadata})


def test_a_running_job_has_its_gpus_and_their_price():
    """One GPU for two hours so far."""
    use = use_of(with_attempts(an_attempt(2, ended=False)), NOW, NOW + timedelta(hours=2))

    assert (use.running_jobs, use.running_gpus, use.waiting_gpus) == (1, 1, 0)
    assert (use.usd_per_hour, use.usd, use.gpu_hours) == (Decimal("3.60"), Decimal("7.20"), Decimal(2))


def test_a_job_whose_pods_are_not_scheduled_waits():
    """It has no GPU yet and costs nothing."""
    waiting = an_attempt(0, ended=False).model_copy(update={"running_time": None})
    use = use_of(with_attempts(waiting, phase="Planned"), NOW, NOW)

    assert (use.running_gpus, use.waiting_jobs, use.waiting_gpus, use.usd_per_hour) == (0, 1, 1, 0)


def test_only_the_part_of_an_attempt_after_the_moment_counts():
    """Four hours, of which the last is in the new month; the ended one before it is not in it at all."""
    begin = datetime(2026, 1, 31, 21, tzinfo=UTC)
    job = with_attempts(an_attempt(1), an_attempt(4, begin=begin, number=1))

    assert cost_since(job, month_begin(FEBRUARY), FEBRUARY) == Decimal("3.60")
    assert cost_since(job, NOW - timedelta(days=1), FEBRUARY) == Decimal("18.00")


def test_attempts_that_are_no_longer_listed_count_if_the_job_began_in_the_time():
    """Their times are gone, their money is not."""
    job = with_attempts(an_attempt(1))
    job = job.model_copy(update={"status": job.status.model_copy(update={"archived_gpu_seconds": 3600})})

    assert cost_since(job, NOW, NOW + timedelta(days=1)) == Decimal("7.20")
    assert cost_since(job, NOW + timedelta(minutes=30), NOW + timedelta(days=1)) == Decimal("1.80")


def test_jobs_are_added_up_by_what_is_asked():
    """The dearest first; jobs whose creator nobody stamped are together."""
    jobs = [
        with_attempts(an_attempt(1), user="ann", namespace="a"),
        with_attempts(an_attempt(2), user="ann", namespace="b"),
        with_attempts(an_attempt(1), namespace="a"),
    ]
    now = NOW + timedelta(days=1)
    found = {
        group: {key: use.usd for key, use in by_group(jobs, group, NOW, now).items()}
        for group in ("namespace", "user", "pool")
    }

    assert found == {
        "namespace": {"a": Decimal("7.20"), "b": Decimal("7.20")},
        "user": {"ann": Decimal("10.80"), "-": Decimal("3.60")},
        "pool": {"h100": Decimal("14.40")},
    }
    assert total(list(by_group(jobs, "model", NOW, now).values())).usd == Decimal("14.40")


def test_a_job_without_a_plan_uses_nothing():
    """It is counted where it is, with zeros."""
    assert use_of(a_job(), NOW, NOW).usd == 0


@pytest.mark.parametrize(
    ("since", "moment"),
    [
        ("24h", NOW - timedelta(days=1)),
        ("2w", NOW - timedelta(days=14)),
        ("2026-01-30", datetime(2026, 1, 30, tzinfo=UTC)),
    ],
)
def test_a_time_ago_or_a_day_can_be_named(since: str, moment: datetime):
    """Days begin at midnight UTC."""
    assert moment_of(since, NOW) == moment


def test_another_way_to_write_a_time_is_refused_with_examples():
    """It would be guessed otherwise."""
    with pytest.raises(
        typer.BadParameter, match="'last week' is neither a time such as 24h, 30d or 8w nor a day such as 2026-11-01"
    ):
        moment_of("last week", NOW)
