"""A plan as a page of text: the choice, memory against the card, time and money, alternatives, warnings. For `plan`."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finetune_operator.api.plan import CheckpointPlan, HostNeeds, ModelArchitecture, Plan
from finetune_operator.api.status import PreflightStatus
from finetune_operator.planning.planner import PlannedRun

BAR_WIDTH = 60
WIDTH_OF_A_FILE = 120
"""Where the output is no terminal, rich would break lines at 80."""

TERMS = (
    ("weights", "weights_gib", "blue"),
    ("adapter", "adapter_gib", "cyan"),
    ("gradients", "gradients_gib", "magenta"),
    ("optimizer", "optimizer_gib", "yellow"),
    ("activations", "activations_gib", "green"),
    ("logits", "logits_gib", "red"),
    ("overhead", "overhead_gib", "white"),
)
LETTERS = {"blue": "W", "cyan": "a", "magenta": "g", "yellow": "o", "green": "A", "red": "l", "white": "+"}
"""The bar is letters, so that it can be read without colours too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything that is shown."""

    title: str
    planned: PlannedRun
    preflight: PreflightStatus
    architecture: ModelArchitecture
    pools_note: str
    explain: bool


def show(page: Page) -> None:
    """Print the page."""
    console, plan = Console(highlight=False), page.planned.plan
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    console.print(Text.assemble((f"{page.title}: ", "bold"), (plan.summary, "bold green")))
    console.print(f"method {plan.method}: {plan.method_reason}")
    console.print(_facts(page))
    console.print(memory_bar(plan))
    console.print(_legend(plan))
    if plan.alternatives:
        console.print(_alternatives(plan))
    for warning in plan.warnings:
        console.print(Text(f"warning: {warning}", "yellow"))
    console.print(Text(f"{page.pools_note}", "dim"))
    if page.explain:
        for line in explanation(page):
            console.print(line)


def _facts(page: Page) -> Table:
    plan, training = page.planned.plan, page.planned.resolved.training
    gpus, rows = plan.replicas * plan.gpus_per_replica, page.preflight.examples
    facts = (
        ("data", f"{rows} rows, {page.preflight.tokens:,} tokens, up to {training.sequence_length} per row"),
        ("", "packed: several rows share a sequence" if plan.packing else "not packed"),
        ("batch", f"{plan.global_batch_size} rows = {_batch(plan, gpus)}"),
        ("run", f"{plan.steps} steps of {plan.tokens_per_step:,} tokens, {training.epochs} epochs"),
        ("", f"learning rate {training.learning_rate} {training.scheduler}, {_trained(plan)} trainable parameters"),
        ("layout", f"{_sharding(plan)}, activation checkpointing {'on' if plan.activation_checkpointing else 'off'}"),
        ("", f"precision {plan.precision}, optimizer {plan.optimizer}"),
        ("time", f"{_hours(plan.estimate.seconds)} at {float(plan.estimate.tokens_per_second):,.0f} tokens/s"),
        ("cost", f"${plan.estimate.cost_usd} (${plan.estimate.low_usd} to ${plan.estimate.high_usd})"),
        ("", f"{plan.estimate.gpu_hours} GPU-hours at ${plan.pool.price_per_gpu_hour_usd}, {_pool(plan)}"),
        ("checkpoint", _checkpoint(plan.checkpoint)),
        ("each Pod", _host(plan.host)),
    )
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in facts:
        table.add_row(name, value)
    return table


def _batch(plan: Plan, gpus: int) -> str:
    return f"{plan.micro_batch_size} micro batch x {plan.gradient_accumulation_steps} accumulation x {gpus} GPUs"


def _trained(plan: Plan) -> str:
    return f"{plan.num_trainable_parameters:,}"


def _pool(plan: Plan) -> str:
    return f"pool {plan.pool.name}, {plan.pool.capacity}"


def _checkpoint(checkpoint: CheckpointPlan) -> str:
    return (
        f"{checkpoint.size_gib} GiB every {checkpoint.interval_seconds} s, {checkpoint.save_seconds} s to save; "
        f"a reclaim loses {checkpoint.loss_on_reclaim_seconds} s"
    )


def _host(host: HostNeeds) -> str:
    return f"{host.memory_gib} GiB memory, {host.cpus} CPUs, {host.ephemeral_gib} GiB disk, {host.shm_gib} GiB /dev/shm"


def _sharding(plan: Plan) -> str:
    stage = {0: "data parallel" if plan.replicas * plan.gpus_per_replica > 1 else "one GPU"}
    offload = "" if plan.offload == "none" else f" with {plan.offload} offload"
    return stage.get(plan.zero_stage, f"ZeRO-{plan.zero_stage}") + offload


def _hours(seconds: int) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{max(1, minutes)} min"


def memory_bar(plan: Plan) -> Text:
    """Return the memory of the fullest GPU as a bar as long as the card: `.` is free, `|` the need with its margin."""
    card = float(plan.vram.usable_gib)
    bar, filled, total = Text("memory      "), 0, 0.0
    for _, name, colour in TERMS:
        total += float(getattr(plan.vram, name))
        end = min(BAR_WIDTH, round(total / card * BAR_WIDTH))
        bar.append(LETTERS[colour] * (end - filled), colour)
        filled = end
    margin = min(BAR_WIDTH, round(float(plan.vram.request_gib) / card * BAR_WIDTH))
    bar.append("." * max(0, margin - filled) + "|" + "." * (BAR_WIDTH - max(margin, filled)), "dim")
    return bar


def _legend(plan: Plan) -> Text:
    vram = plan.vram
    line = Text("            ")
    for term, name, colour in TERMS:
        if float(getattr(vram, name)) >= 0.005:
            line.append(f"{LETTERS[colour]} {term} {getattr(vram, name)}  ", colour)
    line.append(f"= {vram.total_gib} GiB; {vram.request_gib} with margin, of {vram.usable_gib}")
    line.append(f" (confidence {vram.confidence}{': ' + vram.confidence_reason if vram.confidence_reason else ''})")
    return line


def _alternatives(plan: Plan) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title="alternatives", title_justify="left", title_style="bold")
    for name in ("layout", "cost", "time", ""):
        table.add_column(name, justify="left")
    for one in plan.alternatives:
        cost = f"${one.cost_usd}" if one.cost_usd else ""
        table.add_row(one.summary, cost, _hours(one.seconds) if one.seconds else "", one.rejected or "")
    return table


def explanation(page: Page) -> tuple[str, ...]:
    """Return the arithmetic behind time and money, in words."""
    plan, found = page.planned.plan, page.preflight
    gpus = plan.replicas * plan.gpus_per_replica
    speed = float(plan.estimate.tokens_per_second)
    tokens = plan.steps * plan.tokens_per_step
    model = page.architecture
    return (
        "",
        f"tokens        {found.tokens:,} per epoch; {plan.steps} steps x {plan.tokens_per_step:,} = {tokens:,}",
        f"training      {tokens:,} / ({speed:,.0f} tokens/s) = {tokens / speed:,.0f} s",
        f"all           {plan.estimate.seconds:,} s with start, download, load, evaluation, checkpoints and upload",
        f"GPU-hours     {gpus} GPUs x {plan.estimate.seconds:,} s / 3600 = {plan.estimate.gpu_hours}",
        f"cost          {plan.estimate.gpu_hours} x ${plan.pool.price_per_gpu_hour_usd} = ${plan.estimate.cost_usd}",
        f"model         {model.num_parameters:,} parameters, {model.num_active_parameters:,} active per token",
        f"              {model.num_layers} layers of width {model.hidden_size}, vocabulary {model.vocab_size:,}",
    )
