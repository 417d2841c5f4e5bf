"""Training runs drawn by seeded pairwise sampling: models x methods x layouts. For the simulated fixture and its tests.

A case is a flat record of JSON values; `run_of` turns it into the trainer's RunConfig, `layout_of` into what the memory
model is asked.
"""

import random
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from typing import Any

from finetune_contract import (
    Chat,
    Checkpointing,
    Dataset,
    Evaluation,
    Layout,
    Location,
    Lora,
    Model,
    RunConfig,
    Training,
)
from finetune_operator.planning.memory.our_trainer import TrainerLayout
from finetune_operator.planning.models.adapter import Adapter

from tests.simulated.models import MODELS, Shape

NOWHERE = Location(uri="file:///nowhere")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run, as far as its memory depends on it."""

    model: str
    layers: int
    """Kept of the model's layers; its widths are the real ones."""
    method: str
    lora_rank: int = 16
    targets: str = "all-linear"
    variant: str = "standard"
    dropout: float = 0.0
    experts: bool = False
    precision: str = "mixed"
    objective: str = "sft"
    packing: bool = False
    sequence_length: int = 1024
    micro_batch_size: int = 1
    accumulation: int = 1
    optimizer: str = "adamw"
    activation_checkpointing: bool = True
    attention: str = "sdpa"
    gpus: int = 1
    zero_stage: int = 0

    def config(self) -> dict[str, Any]:
        """Return the config.json of the model at this depth."""
        return MODELS[self.model].config(self.layers)


LEVELS: dict[str, tuple[Any, ...]] = {
    "model": tuple(MODELS),
    "method": ("lora", "qlora", "full"),
    "lora_rank": (8, 16, 64),
    "targets": ("all-linear", "attention"),
    "variant": ("standard", "standard", "dora"),
    "dropout": (0.0, 0.0, 0.05),
    "experts": (False, True),
    "precision": ("mixed", "bf16"),
    "batch": ("sft", "sft", "packed", "cpt"),
    "sequence_length": (512, 1024, 2048, 4096, 8192),
    "micro_batch_size": (1, 2, 4),
    "accumulation": (1, 4),
    "optimizer": ("adamw", "adamw-8bit", "paged-adamw-8bit"),
    "activation_checkpointing": (True, True, False),
    "attention": ("sdpa", "varlen"),
    "ranks": ((1, 0), (1, 0), (2, 0), (8, 0), (2, 2), (8, 2), (2, 3), (8, 3)),
    "depth": ("cut", "cut", "cut", "cut", "cut", "real"),
}
"""The factors and their values; a value named twice is drawn twice as often."""

MAX_TOKENS = 16_384
"""Of one micro step: the planner takes no more."""

CANDIDATES = 40
"""Random draws of which the one that covers most new pairs is taken."""


def draw(*, seed: int, count: int) -> list[Case]:
    """Return `count` cases that cover many pairs of values: each is the best of some random draws."""
    rng = random.Random(seed)
    covered: set[tuple[tuple[str, Any], ...]] = set()
    found: list[Case] = []
    while len(found) < count:
        draws = [{name: rng.choice(values) for name, values in LEVELS.items()} for _ in range(CANDIDATES)]
        best = max((one for one in draws if is_legal(one)), key=lambda one: len(pairs(one) - covered), default=None)
        if best is not None:
            covered |= pairs(best)
            found.append(case_of(best))
    return found


LOADING_RANKS: dict[str, tuple[tuple[int, int], ...]] = {
    "lora": ((1, 0), (8, 0), (2, 3), (8, 3)),
    "qlora": ((1, 0), (8, 0), (2, 3), (8, 3)),
    "full": ((1, 0), (2, 2), (8, 2), (2, 3), (8, 3)),
}
"""GPUs and ZeRO stage, by method."""


def draw_loading(*, seed: int, count: int) -> list[Case]:
    """Return cases that differ in what loading depends on."""
    found = [
        Case(
            model=model,
            layers=layers,
            method=method,
            precision=precision,
            gpus=gpus,
            zero_stage=stage,
            attention=attention_for(model, "sdpa"),
        )
        for model in MODELS
        for layers in (6, 10)
        for method, ranks in LOADING_RANKS.items()
        for precision in (("mixed", "bf16") if method == "full" else ("bf16",))
        for gpus, stage in ranks
    ]
    return random.Random(seed).sample(found, count)


def pairs(one: dict[str, Any]) -> set[tuple[tuple[str, Any], ...]]:
    """Return all pairs of values of a draw."""
    return set(combinations(sorted(one.items()), 2))


def is_legal(one: dict[str, Any]) -> bool:
    """Say whether a run like this can exist, and is simulated."""
    shape, (gpus, stage) = MODELS[one["model"]], one["ranks"]
    if one["sequence_length"] * one["micro_batch_size"] > MAX_TOKENS:
        return False
    if one["method"] == "qlora" and stage == 3:
        return False  # DeepSpeed shards packed weights only while it loads them
    if one["method"] == "full" and gpus > 1 and stage == 0:
        return False  # the planner's ladder shards a full fine-tune on several GPUs
    if one["experts"] and not shape.experts:
        return False
    if shape.experts and one["method"] == "full" and stage == 0 and one["precision"] == "mixed":
        return False  # simulated as a factorial: the trainer could not run them when these draws were made
    return one["depth"] == "cut" or (shape.affordable and stage != 3)


def case_of(one: dict[str, Any]) -> Case:
    """Turn a draw into a case; factors that a method does not have are at their defaults."""
    values = dict(one)
    gpus, stage = values.pop("ranks")
    batch, shape = values.pop("batch"), MODELS[values["model"]]
    cut = values.pop("depth") == "cut"
    values |= {
        "gpus": gpus, "zero_stage": stage, "packing": batch == "packed", "objective": "cpt" if batch == "cpt" else "sft",
        "layers": shape.cut if cut else shape.layers,
    }  # fmt: skip
    values["attention"] = attention_for(values["model"], values["attention"])
    if values["method"] == "full":
        values = {name: value for name, value in values.items() if name not in ADAPTER_FACTORS}
    else:
        values["precision"] = "bf16"
        if stage == 3:
            # Not modelled: changes multiplied out to whole matrices beside gathered ones.
            values |= {"experts": False, "variant": "standard"}
        if values["method"] == "qlora":
            values["experts"] = False  # PEFT finds no stacked experts once they are packed
            values["variant"] = "standard"  # DoRA asks PEFT for the shape of weights that are packed
        if values["experts"]:
            values |= {"targets": "all-linear", "dropout": 0.0, "variant": "standard"}
    return Case(**values)


def attention_for(model: str, wanted: str) -> str:
    """Return eager for Gemma 2, whose scores are capped: sdpa cannot do that."""
    return "eager" if model.startswith("gemma-2") else wanted


ADAPTER_FACTORS = ("lora_rank", "targets", "variant", "dropout", "experts")


def from_record(record: dict[str, Any]) -> Case:
    """Read a case back from JSON values."""
    return Case(**{field.name: record[field.name] for field in fields(Case)})


def to_record(case: Case) -> dict[str, Any]:
    """Return a case as JSON values."""
    return asdict(case)


def run_of(case: Case) -> RunConfig:
    """Return what the trainer is told."""
    rows = case.gpus * case.micro_batch_size * case.accumulation
    return RunConfig(
        namespace="simulated", name="case", uid="u", attempt=0, run_digest="", dataset_digest="",
        model=Model(location=NOWHERE), datasets=(Dataset(location=NOWHERE),), chat=Chat(), objective=case.objective,
        method=case.method, lora=None if case.method == "full" else lora_of(case),
        training=Training(
            epochs=1, max_steps=100, learning_rate=1e-4, scheduler="cosine", warmup_fraction=0.0, weight_decay=0.0,
            max_grad_norm=1.0, global_batch_size=rows, sequence_length=case.sequence_length, over_length="truncate",
            packing=case.packing, precision=case.precision, optimizer=case.optimizer, neftune_alpha=0.0, seed=1,
            early_stopping_patience=0, early_stopping_min_delta=0.0,
        ),
        evaluation=Evaluation(),
        layout=Layout(
            replicas=1, gpus_per_replica=case.gpus, micro_batch_size=case.micro_batch_size,
            gradient_accumulation_steps=case.accumulation, zero_stage=case.zero_stage, offload="none",
            activation_checkpointing=case.activation_checkpointing, attention=case.attention, loss_kernel="tiled",
        ),
        checkpoint=Checkpointing(location=NOWHERE, keep=1, interval_seconds=0), output=NOWHERE,
    )  # fmt: skip


def lora_of(case: Case) -> Lora:
    """Return the adapter of a case."""
    return Lora(
        rank=case.lora_rank, alpha=case.lora_rank, dropout=case.dropout, targets=case.targets, experts=case.experts,
        variant=case.variant,
    )  # fmt: skip


def layout_of(case: Case) -> TrainerLayout:
    """Return what the memory model is asked."""
    adapter = Adapter(
        lora_rank=case.lora_rank, targets=case.targets, experts=case.experts, dora=case.variant == "dora"
    )  # fmt: skip
    return TrainerLayout(
        method=case.method,
        adapter=None if case.method == "full" else adapter,
        dropout=case.dropout > 0,
        precision=case.precision,
        optimizer=case.optimizer,
        gpus=case.gpus,
        zero_stage=case.zero_stage,
        activation_checkpointing=case.activation_checkpointing,
        micro_batch_size=case.micro_batch_size,
        sequence_length=case.sequence_length,
        accumulates=case.accumulation > 1,
        packed=case.packing,
        attention=case.attention,
        quantized_experts=case.method == "qlora",
    )


__all__ = ["Case", "Shape", "draw", "from_record", "layout_of", "run_of", "to_record"]
