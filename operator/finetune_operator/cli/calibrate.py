"""`finetune calibrate`: read finished jobs and print where the model of memory, speed and cost is off.

The plan stays as it was pinned; what the comparison shows is for the next release of the constants, and for a
platform team that wants to know how far an estimate can be trusted on its own GPUs.
"""

import asyncio
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from finetune_operator.api.group import API_VERSION, JOB_KIND, PLAN_KIND
from finetune_operator.api.pinned import lacks_plan, with_plans
from finetune_operator.api.status import FineTuneJob, ReportedJob, ReportedStatus
from finetune_operator.cli.manifest_file import read_manifests
from finetune_operator.cli.options import Context, Kubeconfig, must_exist
from finetune_operator.cli.target import require_target
from finetune_operator.errors import FinetuneError
from finetune_operator.planning.layouts import counted

OFF = 1.15
"""A ratio of measured to predicted beyond this, or under its inverse, is worth a look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Measured over predicted, per quantity; None where the job did not get so far."""

    job: str
    layout: str
    memory: float | None
    speed: float | None
    cost: float | None


def command(
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "-f",
            "--file",
            metavar="FILE",
            help="File with the output of `kubectl get ftj,ftpl -o yaml`; - for standard input; repeatable.",
            callback=must_exist,
        ),
    ] = None,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Namespace. Default: all.")] = "",
) -> None:
    """Compare predicted memory, speed and cost with the measurements of finished jobs."""
    if file and (kubeconfig or context or namespace):
        raise typer.BadParameter(
            "--file cannot be combined with --kubeconfig, --context or --namespace: read from files or from a cluster"
        )
    objects = (
        [one for path in file for one in objects_of(path)]
        if file
        else asyncio.run(_jobs_of_cluster(kubeconfig, context, namespace))
    )
    if not objects:
        raise FinetuneError("no FineTuneJobs found: `kubectl get ftj,ftpl -A -o yaml` prints those of a cluster")
    found = [comparison(job) for job in finished(objects)]
    if not found:
        raise FinetuneError(f"nothing to compare: none of the {len(objects)} jobs found has a plan and has finished")
    for line in report(found):
        print(line)
    if without := sum(map(lacks_plan, objects)):
        print(
            f"\nspeed and cost of {counted(without, 'job')} are not compared: without its FineTunePlan there is no prediction. "
            "`kubectl get ftj,ftpl -A -o yaml` prints both"
        )


def objects_of(path: Path) -> list[dict[str, Any]]:
    """Return the FineTuneJobs of a YAML file with their plans: documents, or the items of a List. Raises FinetuneError."""
    items = read_manifests(path)
    jobs, plans = ([item for item in items if item.get("kind") == kind] for kind in (JOB_KIND, PLAN_KIND))
    return with_plans(jobs, plans)


async def _jobs_of_cluster(kubeconfig: str, context: str, namespace: str) -> list[dict[str, Any]]:
    from finetune_operator.cli.jobs import jobs_of  # noqa: PLC0415  # files need no client
    from finetune_operator.cli.plans import list_plans  # noqa: PLC0415

    async with jobs_of(require_target(kubeconfig), context, namespace) as jobs:
        return with_plans(
            await jobs.list_raw(everywhere=not namespace), await list_plans(jobs, everywhere=not namespace)
        )


def finished(objects: Iterable[dict[str, Any]]) -> list[ReportedJob]:
    """Return the jobs that ended with a plan. Raises FinetuneError for an object that is no FineTuneJob of ours."""
    try:
        jobs = [(ReportedJob if lacks_plan(one) else FineTuneJob).model_validate(one) for one in objects]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise FinetuneError(
            f"not a FineTuneJob of {API_VERSION}: {where}: {first['msg']}; use the output of `kubectl get ftj,ftpl -o yaml`"
        ) from error
    return [job for job in jobs if job.status.plan and job.status.completion_time and job.status.attempts]


def comparison(job: ReportedJob) -> Comparison:
    """Return measured over predicted of one job; of a job without its FineTunePlan no speed and no cost, which only that predicts."""
    status = job.status
    assert status.plan is not None
    plan = job.status.plan if isinstance(job, FineTuneJob) else None
    return Comparison(
        job=job.key,
        layout=f"{status.plan.summary}{f', ZeRO-{plan.zero_stage}' if plan is not None and plan.zero_stage else ''}",
        memory=_ratio(status.memory.measured_gib, status.memory.predicted_gib) if status.memory else None,
        speed=_ratio(status.progress.tokens_per_second, plan.estimate.tokens_per_second)
        if plan is not None and status.progress and status.progress.tokens_per_second
        else None,
        cost=_cost_ratio(status),
    )


def _cost_ratio(status: ReportedStatus) -> float | None:
    """Only of runs of one attempt: an estimate does not know failures."""
    estimate = status.plan.estimate if status.plan is not None else None
    if status.cost is None or estimate is None or len(status.attempts or ()) != 1:
        return None
    return _ratio(status.cost.cost_usd, estimate.cost_usd)


def _ratio(measured: str, predicted: str) -> float | None:
    return float(measured) / float(predicted) if float(predicted) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What is compared, and how its being off is said."""

    name: str
    of: Callable[[Comparison], float | None]
    above: str
    below: str
    model: str
    """Where the constants are."""


QUANTITIES = (
    Quantity(
        name="memory", of=lambda one: one.memory, above="runs use more memory than planned",
        below="runs use less memory than planned", model="planning/memory/",
    ),
    Quantity(
        name="speed", of=lambda one: one.speed, above="runs are faster than planned",
        below="runs are slower than planned", model="planning/speed/",
    ),
    Quantity(
        name="cost", of=lambda one: one.cost, above="GPUs are in use for longer than planned",
        below="GPUs are in use for less time than planned", model="planning/speed/duration.py, if speed is as planned",
    ),
)  # fmt: skip


def report(found: Sequence[Comparison]) -> list[str]:
    """Return the table, and one sentence per quantity that is off."""
    title = "measured / predicted"
    width = max(len(title), *(len(one.job) for one in found))
    lines = [f"{title:{width}}{'memory':>8}{'speed':>8}{'cost':>8}  layout"]
    for one in found:
        values = "".join(f"{_shown(value):>8}" for value in (one.memory, one.speed, one.cost))
        lines.append(f"{one.job:{width}}{values}  {one.layout}")
    lines.append("")
    return lines + [line for quantity in QUANTITIES for line in _verdict(quantity, found)]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _verdict(quantity: Quantity, found: Sequence[Comparison]) -> list[str]:
    """Say whether a quantity is as planned; where it is not, how, per layout, and where the model of it is."""
    known = [value for one in found if (value := quantity.of(one)) is not None]
    if not known:
        return [f"{quantity.name}: no measurements"]
    median = statistics.median(known)
    text = f"{quantity.name}: median {median:.2f} over {_jobs(known)}, from {min(known):.2f} to {max(known):.2f}; "
    if 1 / OFF <= median <= OFF:
        return [f"{text}as planned"]
    words = quantity.above if median > 1 else quantity.below
    return [f"{text}off: {words} ({quantity.model})", *_by_layout(quantity, found)]


def _by_layout(quantity: Quantity, found: Sequence[Comparison]) -> list[str]:
    layouts = sorted({one.layout for one in found})
    if len(layouts) == 1:
        return []
    values = {
        layout: [value for one in found if one.layout == layout and (value := quantity.of(one)) is not None]
        for layout in layouts
    }
    return [
        f"  {statistics.median(known):.2f} of {_jobs(known)}: {layout}" for layout, known in values.items() if known
    ]


def _jobs(known: Sequence[float]) -> str:
    return f"{len(known)} job{'' if len(known) == 1 else 's'}"
