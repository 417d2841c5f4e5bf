"""A plan as a page of text: the choice, memory against the card, time and money, alternatives, warnings. For `plan`.

Lines are never broken: a terminal wraps them, and grep finds whole ones. typer drops the colours where nobody sees them.
"""

import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import typer

from finetune_operator.api.plan import Alternative, CheckpointPlan, ExportPlan, HostNeeds, ModelArchitecture, Plan
from finetune_operator.api.spec import RunPolicySpec
from finetune_operator.cli.plan_data import DataFacts
from finetune_operator.cli.plan_explain import explanation, rate
from finetune_operator.cli.tables import aligned, coloured
from finetune_operator.planning.layouts import Rung, counted, sharding
from finetune_operator.planning.planner import PlannedRun
from finetune_operator.planning.report import COST_RANGE
from finetune_operator.planning.speed.duration import hours

BAR_WIDTH, SHORTEST_BAR, LABEL_WIDTH = 60, 20, 12

TERMS = (
    ("weights", "weights_gib", "blue", "W"),
    ("adapter", "adapter_gib", "cyan", "a"),
    ("gradients", "gradients_gib", "magenta", "g"),
    ("optimizer", "optimizer_gib", "yellow", "o"),
    ("activations", "activations_gib", "green", "A"),
    ("logits", "logits_gib", "red", "l"),
    ("overhead", "overhead_gib", "white", "+"),
)
"""Name, field of status.plan.vram, colour, letter: the bar can be read without colours too."""

OVER_LENGTH = {"truncate": "truncated", "drop": "dropped", "error": "refused"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything that is shown."""

    title: str
    planned: PlannedRun
    data: DataFacts
    architecture: ModelArchitecture
    pools_note: str
    explain: bool = False
    serving: Sequence[str] = ()
    """What it takes to serve the result."""


def show(page: Page) -> None:
    """Print the page."""
    colours = coloured()
    for line in page_lines(page):
        typer.echo(line, color=colours)


def page_lines(page: Page) -> Iterator[str]:
    """Yield the lines, with colours."""
    plan = page.planned.plan
    yield typer.style(f"{page.title}: ", bold=True) + typer.style(plan.summary, fg="green", bold=True)
    yield from (f"{name:{LABEL_WIDTH}}{value}" for name, value in facts(page))
    yield f"{'memory':{LABEL_WIDTH}}{memory_bar(plan)}"
    yield from (f"{'':{LABEL_WIDTH}}{line}" for line in legend(plan))
    yield from alternatives(plan, page.planned.resolved.run_policy)
    yield from (typer.style(f"warning: {warning}", fg="yellow") for warning in plan.warnings)
    yield typer.style(page.pools_note, dim=True)
    if page.serving:
        yield typer.style("serving", bold=True)
        yield from page.serving
    if page.explain:
        yield from explanation(page.planned, page.data.preflight, page.architecture)


def facts(page: Page) -> tuple[tuple[str, str], ...]:
    """Return what was decided, by label; an empty label continues the one above."""
    plan, training, found = page.planned.plan, page.planned.resolved.training, page.data.preflight
    gpus = plan.replicas * plan.gpus_per_replica
    rung = Rung(zero_stage=plan.zero_stage, offload=plan.offload)
    rows = f"{counted(found.examples, 'training row')}, {found.evaluation_examples:,} held out"
    return (
        ("method", f"{plan.method}: {plan.method_reason}"),
        ("data", f"{rows}; {counted(found.tokens, 'token')}, up to {training.sequence_length:,} per row{_cut(page)}"),
        *(("", each) for each in page.data.known),
        *(("", f"assumed: {each}") for each in page.data.assumed),
        ("", "packed: several rows per sequence" if plan.packing else "not packed"),
        ("batch", f"{counted(plan.global_batch_size, 'row')} = {_batch(plan, gpus)}"),
        ("run", _run(plan, training.epochs)),
        (
            "",
            f"learning rate {training.learning_rate} {training.scheduler}, {plan.num_trainable_parameters:,} trainable parameters",
        ),
        (
            "layout",
            f"{sharding(rung, gpus)}, activation checkpointing {'on' if plan.activation_checkpointing else 'off'}",
        ),
        ("", f"precision {plan.precision}, optimizer {plan.optimizer}"),
        ("time", f"{_time(plan)}, {_training(plan)}"),
        ("cost", f"{_cost(plan)}; {confidence(plan.estimate.confidence, plan.estimate.confidence_reason)}"),
        ("", f"{plan.estimate.gpu_hours} GPU-hours at ${plan.pool.price_per_gpu_hour_usd}, {_pool(plan)}"),
        ("checkpoint", _checkpoint(plan.checkpoint, plan.estimate.seconds)),
        ("each Pod", _host(plan.host)),
        *(("quota", share) for share in plan.quotas),
        *((("export", _export(plan.export, page.planned.resolved.output.exports or ())),) if plan.export else ()),
    )


def _cut(page: Page) -> str:
    """Say what becomes of rows longer than the sequence; documents of continued pre-training are split, so nothing does."""
    spec = page.planned.resolved
    length = spec.training.sequence_length
    if page.data.preflight.tokens_max <= length or spec.objective == "cpt":
        return ""
    return f"; longer rows are {OVER_LENGTH[spec.training.over_length]}"


def _batch(plan: Plan, gpus: int) -> str:
    return f"micro batch {plan.micro_batch_size} x accumulation {plan.gradient_accumulation_steps} x {counted(gpus, 'GPU')}"


def _run(plan: Plan, epochs: int) -> str:
    return f"{counted(plan.steps, 'step')} of {counted(plan.tokens_per_step, 'token')}, {counted(epochs, 'epoch')}"


def _time(plan: Plan) -> str:
    seconds, (low, high) = plan.estimate.seconds, COST_RANGE[plan.estimate.confidence]
    return f"{hours(seconds)} ({hours(round(low * seconds))} to {hours(round(high * seconds))})"


def _training(plan: Plan) -> str:
    """The rest is start, download, evaluation, saves: tokens over time would not give the speed."""
    speed = float(plan.estimate.tokens_per_second)
    training = round(plan.steps * plan.tokens_per_step / speed)
    used = plan.estimate.model_flop_utilisation
    share = f" ({100 * float(used):.0f} % of the GPUs' peak)" if used else ""
    return f"of which {hours(training)} training at {rate(speed)}{share}"


def _cost(plan: Plan) -> str:
    estimate = plan.estimate
    return f"{dollars(estimate.cost_usd)} ({dollars(estimate.low_usd)} to {dollars(estimate.high_usd)})"


def dollars(amount: str) -> str:
    """Return an amount with whole cents, and with its four decimals only where it is less than ten cents."""
    return f"${float(amount):,.2f}" if float(amount) >= 0.1 else f"${amount}"


def _pool(plan: Plan) -> str:
    return f"pool {plan.pool.name}, {plan.pool.capacity}"


def _checkpoint(checkpoint: CheckpointPlan, run_seconds: int) -> str:
    size, save = f"{float(checkpoint.size_gib):,.2f} GiB", f"{hours(checkpoint.save_seconds)} to save"
    lost = checkpoint.loss_on_reclaim_seconds
    loss = f"losing the node costs {f'{hours(lost)} of' if lost else 'no'} work"
    if checkpoint.interval_seconds >= run_seconds:
        return f"none during the run ({size}, {save}); {loss}"
    return f"{size} every {hours(checkpoint.interval_seconds)} ({save}); {loss}"


def _export(export: ExportPlan, forms: Sequence[str]) -> str:
    made = ("model", *forms) if export.publishes else forms
    room = f"{export.memory_gib:,} GiB memory, {export.cpus} CPUs, {export.ephemeral_gib:,} GiB disk"
    return f"{', '.join(made)}: {export.size_gib} GiB in {hours(export.seconds)} on a Pod without GPUs ({room})"


def _host(host: HostNeeds) -> str:
    memory, disk = f"{host.memory_gib:,} GiB memory", f"{host.ephemeral_gib:,} GiB disk"
    return f"{memory}, {host.cpus} CPUs, {disk}, {host.shm_gib} GiB /dev/shm"


def memory_bar(plan: Plan) -> str:
    """Return the memory of the fullest GPU as a bar as long as the card: `.` is free, `|` the need with its margin."""
    card, width = float(plan.vram.usable_gib), bar_width()
    bar, filled, total = "", 0, 0.0
    for _, name, colour, letter in TERMS:
        total += float(getattr(plan.vram, name))
        end = min(width, round(total / card * width))
        bar += typer.style(letter * (end - filled), fg=colour) if end > filled else ""
        filled = end
    margin = min(width, round(float(plan.vram.request_gib) / card * width))
    return bar + typer.style("." * max(0, margin - filled) + "|" + "." * (width - max(margin, filled)), dim=True)


def bar_width() -> int:
    """Return the columns of the bar: a terminal that is narrower than the usual bar would break it in two."""
    if not sys.stdout.isatty():
        return BAR_WIDTH
    return max(SHORTEST_BAR, min(BAR_WIDTH, shutil.get_terminal_size().columns - LABEL_WIDTH - 1))


def legend(plan: Plan) -> tuple[str, ...]:
    """Return the terms in GiB, their sum against the card, and what the confidence is not high for."""
    vram = plan.vram
    terms = [
        typer.style(f"{letter} {term} {getattr(vram, name)}", fg=colour)
        for term, name, colour, letter in TERMS
        if float(getattr(vram, name)) >= 0.005
    ]
    when = ", while it loads" if vram.peak == "loading" else ""
    sums = f"= {vram.total_gib} GiB, {vram.request_gib} with margin, of {vram.usable_gib} GiB per GPU{when}"
    return "  ".join(terms), f"{sums}; {confidence(vram.confidence, vram.confidence_reason)}"


def confidence(level: str, reason: str) -> str:
    """Return how sure a figure is, and why not surer."""
    return f"confidence {level}{f': {reason}' if reason else ''}"


def alternatives(plan: Plan, limits: RunPolicySpec) -> list[str]:
    """Return the other layouts with their cost and time, which may be past a limit, or why they were refused."""
    if not plan.alternatives:
        return []
    rows = [
        (
            one.summary,
            dollars(one.cost_usd) if one.cost_usd else "",
            hours(one.seconds) + _past(one, limits) if one.seconds else "",
            one.rejected,
        )
        for one in plan.alternatives
    ]
    fitting = [row[:3] for row in rows if not row[3]]
    refused = [f"{summary}: {why}" for summary, _, _, why in rows if why]
    shown = (
        titled((("alternatives", "cost", "time"), *fitting)) if fitting else [typer.style("alternatives", bold=True)]
    )
    return [*shown, *refused]


def titled(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as a table, the titles in bold."""
    title, *lines = aligned(rows, gap=2)
    return [typer.style(title, bold=True), *lines]


def _past(one: Alternative, limits: RunPolicySpec) -> str:
    """Say why a cheaper or faster plan was not taken."""
    budget = float(limits.budget.max_cost_usd) if limits.budget else math.inf
    deadline = limits.active_deadline_seconds or math.inf
    past = [
        *(["over budget"] if float(one.cost_usd or 0) > budget else []),
        *(["past the deadline"] if (one.seconds or 0) > deadline else []),
    ]
    return f", {' and '.join(past)}" if past else ""
