"""The live view of a job: what each line of it says, at any width from 60 columns. Pure; drawn by watch."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from finetune_operator.api.plan import Plan
from finetune_operator.api.reasons import Phase
from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.get_text import evaluation_text
from finetune_operator.cli.job_text import duration_text, ended, export_lines, gate_text, metric_lines, reason_line
from finetune_operator.cli.tables import from_left

NARROWEST, WIDEST = 60, 110
LABEL = 12
FRAME = 4
SPARKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
"""Bars of one to eight eighths."""

LONGEST_SPARKLINE = 40
COLOURS = {
    Phase.PENDING: "yellow",
    Phase.PREFLIGHT: "cyan",
    Phase.PLANNED: "cyan",
    Phase.QUEUED: "yellow",
    Phase.TRAINING: "blue",
    Phase.PUBLISHING: "blue",
    Phase.SUSPENDED: "yellow",
    Phase.SUCCEEDED: "green",
    Phase.FAILED: "red",
}
AWAITED = {
    Phase.PENDING: "the operator examines the job",
    Phase.PREFLIGHT: "a plan, once model and data are examined",
    Phase.PUBLISHING: "the end of the job",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of a job when it is drawn."""

    job: ReportedJob
    plan: Plan | None = None
    """The whole plan, as far as it can be read."""
    losses: tuple[float, ...] = ()
    """Training losses so far, in order."""
    event: str = ""
    """The last Event, in one line."""


def panel(seen: Seen, now: datetime, width: int) -> RenderableType:
    """Return the view in a frame."""
    outer = max(NARROWEST, min(WIDEST, width))
    inner = outer - FRAME - LABEL
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=LABEL - 1, style="dim", no_wrap=True)
    grid.add_column(width=inner)
    phase = seen.job.status.phase
    grid.add_row("phase", Text.assemble((str(phase), f"bold {COLOURS[phase]}"), attempt_words(seen.job)))
    for label, text in lines(seen, now, inner):
        if label == "progress":
            grid.add_row(label, bar(seen.job, inner))
            grid.add_row("", text)
        else:
            grid.add_row(label, text)
    return Panel(Group(grid, Text(reason_line(seen.job))), title=seen.job.key, width=outer)


def lines(seen: Seen, now: datetime, width: int) -> list[tuple[str, str]]:
    """Return what is known, as label and text."""
    job = seen.job
    status, plan = job.status, job.status.plan
    told = [
        ("model", from_left(job.spec.model.source, width)),
        ("plan", plan.summary if plan else ""),
        ("progress", progress_words(job)),
        ("loss", loss_words(seen, width)),
        ("speed", speed_words(job, seen.plan)),
        ("memory", memory_words(job, seen.plan)),
        ("cost", cost_words(job, seen.plan)),
        ("checkpoint", checkpoint_words(job, now)),
        ("next", next_words(job, seen.plan)),
        ("event", event_words(seen)),
        *comparison(job),
        ("result", "\n".join([*([status.adapter_uri] if status.adapter_uri else []), *export_lines(status)])),
    ]
    return [(label, text) for label, text in told if text]


def comparison(job: ReportedJob) -> list[tuple[str, str]]:
    """Return what the tuned model is better at, and whether it passed its gate."""
    measured = job.status.evaluation
    if measured is None:
        return []
    told = [evaluation_text(measured), *(text for metric in measured.metrics for text in metric_lines(metric))]
    return [("evaluation", "\n".join(told)), ("gate", gate_text(job))]


def attempt_words(job: ReportedJob) -> str:
    """Return which attempt it is, if it is not the first one."""
    attempts = job.status.attempts or []
    return f"  attempt {attempts[-1].number + 1}" if attempts and attempts[-1].number else ""


def bar(job: ReportedJob, width: int) -> RenderableType:
    """Return how far the training is."""
    progress = job.status.progress
    assert progress is not None
    return ProgressBar(total=max(1, progress.total_steps), completed=progress.step, width=width)


def progress_words(job: ReportedJob) -> str:
    """Return the step, the share and the time left."""
    progress = job.status.progress
    if progress is None:
        return ""
    left = progress.seconds_remaining
    during = f", {progress.phase}" if progress.phase not in ("", "training", "done") else ""
    remaining = f", {duration_text(left)} left" if left is not None and ended(job) is None else ""
    return f"step {progress.step:,}/{progress.total_steps:,}, {progress.percent} %{during}{remaining}"


def loss_words(seen: Seen, width: int) -> str:
    """Return the course of the loss, its last value and the last evaluation."""
    progress = seen.job.status.progress
    if progress is None or progress.loss is None:
        return ""
    held_out = f", held out {progress.eval_loss}" if progress.eval_loss else ""
    words = f"{progress.loss}{held_out}"
    room = min(LONGEST_SPARKLINE, width - len(words) - 1)
    drawn = sparkline(seen.losses, room) if room > 1 else ""
    return f"{drawn} {words}" if drawn else words


def sparkline(values: Sequence[float], width: int) -> str:
    """Return a curve in one line, the newest at the right; means of neighbours where there are more values than columns."""
    if len(values) < 2:
        return ""
    columns = min(width, len(values))
    bounds = [round(index * len(values) / columns) for index in range(columns + 1)]
    means = [sum(values[low:high]) / (high - low) for low, high in itertools.pairwise(bounds)]
    least, most = min(means), max(means)
    scale = (len(SPARKS) - 1) / (most - least) if most > least else 0.0
    return "".join(SPARKS[round((value - least) * scale)] for value in means)


def speed_words(job: ReportedJob, plan: Plan | None) -> str:
    """Return tokens per second against the plan's, and how well the GPUs are used."""
    progress = job.status.progress
    if progress is None or not progress.tokens_per_second:
        return ""
    speed = float(progress.tokens_per_second)
    planned = float(plan.estimate.tokens_per_second) if plan else 0.0
    against = f" of {planned:,.0f} planned ({100 * speed / planned:.0f} %)" if planned else ""
    used = progress.model_flop_utilisation
    return f"{speed:,.0f} tokens/s{against}{f', {100 * float(used):.0f} % MFU' if used else ''}"


def memory_words(job: ReportedJob, plan: Plan | None) -> str:
    """Return the peak of the fullest GPU against the plan."""
    progress = job.status.progress
    if progress is None or not progress.peak_memory_gib or plan is None:
        return ""
    return f"{progress.peak_memory_gib} of {plan.vram.total_gib} GiB planned, of {plan.vram.usable_gib} GiB per GPU"


def cost_words(job: ReportedJob, plan: Plan | None) -> str:
    """Return the money so far, of the money planned, and the budget."""
    cost, known, budget = job.status.cost, plan or job.status.plan, job.spec.run_policy.budget
    if known is None:
        return ""
    planned = f"${known.estimate.cost_usd} planned" if known.estimate else ""
    spent = " of ".join(filter(None, (f"${cost.cost_usd}" if cost and job.status.attempts else "", planned)))
    wasted = f", ${cost.wasted_usd} repeated or waited for" if cost and float(cost.wasted_usd) else ""
    return f"{spent}{wasted}{f', budget ${budget.max_cost_usd}' if budget else ''}"


def checkpoint_words(job: ReportedJob, now: datetime) -> str:
    """Return the newest checkpoint and its age."""
    kept = job.status.checkpoint
    if kept is None:
        return ""
    age = (now - datetime.fromisoformat(kept.time)).total_seconds()
    return f"step {kept.step:,}" + (f", {duration_text(age)} ago" if ended(job) is None else "")


def event_words(seen: Seen) -> str:
    """Return the last Event, unless the line below says the same; none at the end, which that line tells."""
    said = seen.event.partition(": ")[2]
    return seen.event if ended(seen.job) is None and said not in reason_line(seen.job) else ""


def next_words(job: ReportedJob, plan: Plan | None) -> str:
    """Return what comes next; empty at the end, and where the last line says what is waited for."""
    status = job.status
    if ended(job) is not None or status.phase in (Phase.SUSPENDED, Phase.PLANNED):
        return ""
    if status.phase is not Phase.TRAINING or status.progress is None:
        return AWAITED.get(status.phase, "")
    progress = status.progress
    if progress.step >= progress.total_steps:
        return f"publish to {job.spec.output.destination}"
    every = plan.evaluate_every_steps if plan else 0
    coming = (progress.step // every + 1) * every if every else 0
    if 0 < coming < progress.total_steps:
        return f"evaluation at step {coming:,}"
    return f"the last step, {progress.total_steps:,}, then publishing"
