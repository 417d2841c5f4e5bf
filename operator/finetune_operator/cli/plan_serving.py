"""What it takes to serve the result of a plan: `finetune plan --serving`. Called by plan."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import typer
from finetune_contract.engines import servable_by, summary
from finetune_contract.served import CONCURRENCY, LENGTH, Load

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.planning.advice import traits_of
from finetune_operator.planning.planner import PlannedRun
from finetune_operator.planning.serving import described, served_model


def asked_load(length: int | None, concurrency: int | None, adapters: int | None, *, serving: bool) -> Load | None:
    """Return what is asked of the server; None where none is asked about."""
    if not serving:
        if length or concurrency or adapters:
            raise typer.BadParameter("--length, --concurrency and --adapters describe a server: add --serving")
        return None
    return Load(length=length or LENGTH, concurrency=concurrency or CONCURRENCY, adapters=adapters or 1)


def serving_lines(planned: PlannedRun, shape: ModelArchitecture, asked: Load) -> Sequence[str]:
    """Return what the result takes on GPUs of the plan's pool: as it is, and merged where that is a choice."""
    chosen = planned.chosen
    on_card = partial(described, served_model(shape), gpu_type=chosen.pool.spec.gpu_type, memory_gib=chosen.usable_gib)
    lora = planned.resolved.lora
    if lora is None:
        return on_card(replace(asked, adapters=0))
    answers = servable_by(traits_of(lora, shape), lora.rank)
    told = on_card(replace(asked, lora_rank=lora.rank))
    merged = on_card(replace(asked, adapters=0))
    return (
        f"the adapter as it is: {summary(answers)}",
        *(told if answers[0].serves else ()),
        "merged (output.exports): every engine",
        *merged,
    )
