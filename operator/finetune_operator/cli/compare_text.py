"""Jobs side by side: the settings in which they differ, and what came out. Pure; called by compare and report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetune_operator.api.published import MetricStatus
from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.differences import MISSING, differing, whole
from finetune_operator.cli.job_text import duration_text, gate_text, reason
from finetune_operator.cli.tables import aligned

IGNORED = ("output.destination", "checkpoint.destination", "suspend")
"""Every job has a place of its own: that says nothing about what it learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A figure of a job, and which direction is better."""

    name: str
    of: Callable[[FineTuneJob], str | None]
    better: int = 0
    """1: more is better, -1: less is better, 0: neither."""


def _seconds(job: FineTuneJob) -> str | None:
    attempts = job.status.attempts or []
    plan = job.status.plan
    gpus = plan.replicas * plan.gpus_per_replica if plan else 0
    held = sum(attempt.gpu_seconds for attempt in attempts)
    return duration_text(held / gpus) if gpus and held else None


def _measured(name: str) -> Callable[[FineTuneJob], str | None]:
    """Return what reads a field of status.evaluation."""
    return lambda job: getattr(job.status.evaluation, name) if job.status.evaluation else None


def _share_of(name: str) -> Callable[[FineTuneJob], str | None]:
    return lambda job: _share(_measured(name)(job))


def _steps(job: FineTuneJob) -> str | None:
    progress = job.status.progress
    return f"{progress.step}/{progress.total_steps}" if progress else None


RESULTS = (
    Result(name="phase", of=lambda job: f"{job.status.phase}{f' ({reason(job)})' if reason(job) else ''}"),
    Result(name="held-out loss", of=_measured("tuned_loss"), better=-1),
    Result(name="improvement", of=_share_of("relative_improvement"), better=1),
    Result(name="predicted tokens", of=_share_of("tuned_token_accuracy"), better=1),
    Result(name="loss on general text", of=_measured("tuned_forgetting_loss"), better=-1),
    Result(name="gate", of=lambda job: gate_text(job).partition(":")[0] or None),
    Result(name="training loss", of=lambda job: job.status.progress.loss if job.status.progress else None),
    Result(name="steps", of=_steps),
    Result(
        name="tokens/s", of=lambda job: job.status.progress.tokens_per_second if job.status.progress else None, better=1
    ),
    Result(name="memory per GPU, GiB", of=lambda job: job.status.memory.measured_gib if job.status.memory else None),
    Result(name="time on GPUs", of=_seconds),
    Result(
        name="cost, USD",
        of=lambda job: job.status.cost.cost_usd if job.status.cost and job.status.attempts else None,
        better=-1,
    ),
    Result(name="attempts", of=lambda job: str(len(job.status.attempts)) if job.status.attempts else None),
)


def _share(value: str | None) -> str | None:
    return None if value is None else f"{100 * float(value):.1f} %"


def settings(jobs: Sequence[FineTuneJob]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the settings in which jobs differ: as resolved where all have been planned, defaults that were computed included."""
    resolved = [job.status.resolved for job in jobs]
    if all(each is not None for each in resolved):
        specs = [
            each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in resolved if each is not None
        ]
    else:
        specs = [whole(job.spec.model_dump(mode="json", by_alias=True, exclude_none=True)) for job in jobs]
    plans = [job.status.plan for job in jobs]
    rows = [(path, values) for path, values in differing(specs) if path not in IGNORED]
    if all(plan is not None for plan in plans):
        told = tuple(plan.summary for plan in plans if plan is not None)
        rows += [("plan", told)] if len(set(told)) > 1 else []
    return rows


def results(jobs: Sequence[FineTuneJob]) -> list[tuple[str, tuple[str, ...]]]:
    """Return what came out of each, where any of them has it; the best of comparable jobs is marked with a star."""
    rows = []
    for result in RESULTS:
        values = [result.of(job) for job in jobs]
        if any(value is not None for value in values):
            rows.append((result.name, tuple(_marked(value, values, result.better) for value in values)))
    return [*rows, *_metrics(jobs)]


def _metrics(jobs: Sequence[FineTuneJob]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the metrics of the tuned models, each with its 95 % interval."""
    tables = [
        {one.name: one for one in (job.status.evaluation.metrics if job.status.evaluation else ())} for job in jobs
    ]
    names = dict.fromkeys(name for table in tables for name in table)
    return [(name, tuple(interval(*_tuned(table.get(name))) for table in tables)) for name in names]


def _tuned(metric: MetricStatus | None) -> tuple[str | None, str | None, str | None]:
    return (metric.tuned, metric.tuned_low, metric.tuned_high) if metric is not None else (None, None, None)


def interval(value: str | None, low: str | None, high: str | None) -> str:
    """Return a figure with its interval; - without one."""
    if value is None:
        return MISSING
    return f"{value} ({low} to {high})" if low is not None and high is not None else value


def _marked(value: str | None, values: Sequence[str | None], better: int) -> str:
    if value is None:
        return MISSING
    known = [_figure(each) for each in values if each is not None]
    best = max(known) if better > 0 else min(known)
    is_best = better and len(known) > 1 and min(known) != max(known) and _figure(value) == best
    return f"{value} *" if is_best else value


def _figure(text: str) -> float:
    try:
        return float(text.partition(" ")[0])
    except ValueError:
        return 0.0


def comparison(jobs: Sequence[FineTuneJob]) -> list[str]:
    """Return both tables, and what keeps the results from being comparable."""
    names = tuple(job.metadata.name for job in jobs)
    differs = settings(jobs)
    lines = (
        aligned([("SETTING", *names), *((path, *values) for path, values in differs)])
        if differs
        else ["the settings are the same"]
    )
    lines += ["", *aligned([("RESULT", *names), *((name, *values) for name, values in results(jobs))])]
    return [*lines, *(["", note] if (note := held_out_note(jobs)) else [])]


def held_out_note(jobs: Sequence[FineTuneJob]) -> str:
    """Say so where losses were measured on different rows: the lower one is not the better one then."""
    measured = [job for job in jobs if job.status.evaluation is not None]
    data = {
        job.status.preflight.dataset_digest if job.status.preflight else str([one.source for one in job.spec.datasets])
        for job in measured
    }
    rows = {job.status.evaluation.examples for job in measured if job.status.evaluation is not None}
    if len(measured) < 2 or (len(data) == 1 and len(rows) == 1):
        return ""
    return "note: the data or the held-out rows differ, so the losses cannot be compared with each other"
