"""Part 5: qlora with float32 against bfloat16 adapters: what a step changes, and what is learned of a few rows."""

from dataclasses import replace
from typing import Any

import torch
from finetune_trainer.model.precision import computation
from transformers import TrainerCallback

from tests.gpu.card import Card
from tests.gpu.scenarios import Scenario, of_the_card
from tests.gpu.training import loaded, rows_of, scatter, trainer_of
from tests.simulated.cases import Case, run_of

LEARNT = Scenario(
    name="qlora of 135M",
    case=Case(model="smollm2-135m", layers=30, method="qlora", sequence_length=256, micro_batch_size=4),
)
STEPS, REDUCED_STEPS = 120, 3
LAST = 10
"""Steps whose losses are averaged."""


class Unchanged(TrainerCallback):  # type: ignore[misc]
    """The share of LoRA-A weights that a step leaves as they are, averaged over the steps."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.before: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        self.before = [parameter.detach().clone() for parameter in lora_a(model)]

    def on_optimizer_step(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        same = [(now == then).float().mean() for now, then in zip(lora_a(model), self.before, strict=True)]
        self.shares.append(float(torch.stack(same).mean()))


def lora_a(model: torch.nn.Module) -> list[torch.Tensor]:
    """Return the matrices that adapters begin with."""
    return [parameter for name, parameter in model.named_parameters() if "lora_A" in name]


def check(card: Card) -> None:
    """Train the same run twice."""
    scenario = of_the_card(LEARNT, reduced=card.reduced)
    steps = REDUCED_STEPS if card.reduced else STEPS
    run = run_of(scenario.case)
    run = replace(run, training=replace(run.training, max_steps=steps, scheduler="constant"))
    numbers = computation(run.method, run.training.precision, device=card.device)
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        built = loaded(run, scenario.config, numbers)
        scatter(built)
        few = rows_of(scenario, 2, scenario.config["vocab_size"])
        rows = few.select([step % len(few) for step in range(steps * scenario.case.micro_batch_size)])
        unchanged = Unchanged()
        with trainer_of(scenario, built, run, numbers, rows=rows, steps=steps) as (trainer, clock):
            trainer.add_callback(unchanged)
            for name, parameter in trainer.model.named_parameters():
                if "lora_" in name:
                    parameter.data = parameter.data.to(dtype)
            trainer.train()
        card.say(
            {
                "name": f"{LEARNT.name}, {str(dtype).removeprefix('torch.')} adapters", "steps": steps,
                "unchangedShare": round(sum(unchanged.shares) / len(unchanged.shares), 4),
                "firstLoss": round(clock.losses[0], 4), "lastLoss": round(sum(clock.losses[-LAST:]) / len(clock.losses[-LAST:]), 4),
            }
        )  # fmt: skip
