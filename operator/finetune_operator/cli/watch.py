"""`finetune watch`: follow a job live until it ends. A panel on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.job_text import COLUMNS, duration_text, ended, line, reason_line, row
from finetune_operator.cli.jobs import Context, Jobs, Kubeconfig, Name, Namespace, with_jobs

SHOWN = ("PHASE", "MODEL", "PLAN", "PROGRESS", "LOSS", "COST")


def panel(job: FineTuneJob, now: datetime) -> RenderableType:
    """Return the live view: phase, plan, progress bar, loss, cost, time left, and the last word."""
    status, values = job.status, dict(zip(COLUMNS, row(job, now), strict=True))
    grid = Table.grid(padding=(0, 2))
    for name in SHOWN:
        if values[name]:
            grid.add_row(Text(name.lower(), style="dim"), values[name])
    parts: list[RenderableType] = [grid]
    if status.progress is not None:
        parts.append(ProgressBar(total=max(1, status.progress.total_steps), completed=status.progress.step, width=60))
        if status.progress.seconds_remaining is not None:
            parts.append(Text(f"{duration_text(status.progress.seconds_remaining)} left", style="dim"))
    parts.append(Text(reason_line(job)))
    return Panel(Group(*parts), title=job.key, width=100)


async def follow(jobs: Jobs, name: str, show: Callable[[FineTuneJob], None]) -> bool:
    """Show every change of the job; tell at its end whether it went well."""
    async for job in jobs.follow(name):
        show(job)
        if (well := ended(job)) is not None:
            return well
    raise AssertionError("following a job never ends by itself")


def plain_lines() -> Callable[[FineTuneJob], None]:
    """Return a function that prints a line when it says something new."""
    said = ""

    def show(job: FineTuneJob) -> None:
        nonlocal said
        if (words := line(job)) != said:
            said = words
            print(f"{datetime.now(UTC):%H:%M:%S}  {words}", flush=True)

    return show


def command(name: Name, *, namespace: Namespace = "", kubeconfig: Kubeconfig = "", context: Context = "") -> None:
    """Follow a job live until it finishes. Exits with 1 if the job fails."""
    options = (kubeconfig, context, namespace)
    if not sys.stdout.isatty():
        show = plain_lines()
        well = with_jobs(options, lambda jobs: follow(jobs, name, show))
    else:
        with Live(console=Console(), refresh_per_second=4) as live:
            well = with_jobs(
                options, lambda jobs: follow(jobs, name, lambda job: live.update(panel(job, datetime.now(UTC))))
            )
    raise typer.Exit(0 if well else 1)
