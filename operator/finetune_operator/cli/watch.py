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

from finetune_operator.api.status import FineTuneJob, ProgressStatus
from finetune_operator.cli.job_text import COLUMNS, duration_text, ended, line, reason_line, row, speed_text
from finetune_operator.cli.jobs import Jobs, with_jobs
from finetune_operator.cli.options import Context, Kubeconfig, Name, Namespace

SHOWN = ("PHASE", "MODEL", "PLAN", "PROGRESS", "LOSS", "COST")


def panel(job: FineTuneJob, now: datetime) -> RenderableType:
    """Return the live view: phase, plan, progress bar, loss, cost, time left, and the last word."""
    status, values = job.status, dict(zip(COLUMNS, row(job, now), strict=True))
    grid = Table.grid(padding=(0, 2))
    for name in SHOWN:
        if values[name]:
            grid.add_row(Text(name.lower(), style="dim"), values[name])
        if name == "PROGRESS" and status.progress is not None:
            grid.add_row("", bar(status.progress))
        if name == "LOSS" and status.progress is not None and status.progress.tokens_per_second:
            grid.add_row(Text("speed", style="dim"), speed_text(status.progress))
    return Panel(Group(grid, Text(reason_line(job))), title=job.key, width=100)


def bar(progress: ProgressStatus) -> RenderableType:
    """Return how far the training is, with the time left. In a grid: a bar by itself does not end its line."""
    left = "" if progress.seconds_remaining is None else f"{duration_text(progress.seconds_remaining)} left"
    drawn = ProgressBar(total=max(1, progress.total_steps), completed=progress.step, width=60)
    grid = Table.grid(padding=(0, 2))
    grid.add_row(drawn, Text(left, style="dim"))
    return grid


async def follow(jobs: Jobs, name: str, show: Callable[[FineTuneJob], None]) -> bool:
    """Show every change of the job; tell at its end whether it went well."""
    async for job in jobs.follow(name):
        show(job)
        if (well := ended(job)) is not None:
            return well
    raise AssertionError("following a job never ends by itself")


def plain_lines() -> Callable[[FineTuneJob], None]:
    """Return a function that prints a line when the phase, the step or the reason has changed, and each reason once."""
    shown: tuple[str, int, str, str] | None = None

    def show(job: FineTuneJob) -> None:
        nonlocal shown
        progress, said = job.status.progress, reason_line(job)
        step, loss = (progress.step, progress.eval_loss or "") if progress else (0, "")
        news = (str(job.status.phase), step, loss, said)
        if shown == news:
            return
        words = line(job, with_reason=shown is None or shown[-1] != said)
        shown = news
        print(f"{datetime.now(UTC):%H:%M:%S}  {words}", flush=True)

    return show


def in_place(live: Live) -> Callable[[FineTuneJob], None]:
    """Return a function that draws the panel over the last one."""
    return lambda job: live.update(panel(job, datetime.now(UTC)), refresh=True)


def command(name: Name, *, namespace: Namespace = "", kubeconfig: Kubeconfig = "", context: Context = "") -> None:
    """Follow a job live until it finishes. Exits with 1 if the job fails."""
    options = (kubeconfig, context, namespace)
    if not sys.stdout.isatty():
        show = plain_lines()
        well = with_jobs(options, lambda jobs: follow(jobs, name, show))
    else:
        with Live(console=Console(), auto_refresh=False) as live:
            well = with_jobs(options, lambda jobs: follow(jobs, name, in_place(live)))
    raise typer.Exit(0 if well else 1)
