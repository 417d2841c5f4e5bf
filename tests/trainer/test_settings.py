"""What the libraries are told, where only a GPU could show its effect."""

from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer.model.precision import computation
from finetune_trainer.training.settings import trainer_settings
from transformers import Trainer, get_scheduler

from tests.trainer.running import IN_PROCESS
from tests.trainer.tiny import a_run

pytestmark = IN_PROCESS


@pytest.mark.parametrize(
    ("optimizer", "name", "chosen"),
    [
        ("adamw", "adamw_torch_fused", {"fused": True}),
        ("adamw-8bit", "adamw_8bit", {"optim_bits": 8, "is_paged": False}),
        ("paged-adamw-8bit", "paged_adamw_8bit", {"optim_bits": 8, "is_paged": True}),
    ],
)
def test_the_optimizer_asked_for_is_the_one_that_is_built(
    tmp_path: Path, optimizer: str, name: str, chosen: dict[str, Any]
) -> None:
    """Pages need a GPU's unified memory: for the paged one, what transformers would hand to bitsandbytes is looked at."""
    run = a_run(tmp_path, model=tmp_path, data=tmp_path, optimizer=optimizer, weight_decay=0.1)
    numbers = computation(run.method, run.training.precision, device="cpu")
    settings = trainer_settings(run, numbers, folder=tmp_path, steps=8, end_to_end=False)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(settings)

    assert (settings.optim, settings.weight_decay, options["lr"]) == (name, 0.1, 5e-3)
    assert kind.__name__ == "AdamW"
    assert {key: options.get(key, False) for key in chosen} == chosen


@pytest.mark.parametrize(
    ("scheduler", "objective", "half", "last"),
    [
        ("cosine", "sft", 0.5, 0.0),
        ("cosine", "cpt", 0.55, 0.1),  # continued pre-training ends at a tenth
        ("linear", "sft", 0.5, 0.0),
        ("constant", "sft", 1.0, 1.0),
    ],
)
def test_the_learning_rate_rises_and_then_follows_its_scheduler(
    tmp_path: Path, scheduler: str, objective: str, half: float, last: float
) -> None:
    """Shares of the peak: a quarter into the warm-up, at its end, half way down, behind the last step."""
    run = a_run(tmp_path, model=tmp_path, data=tmp_path, scheduler=scheduler, objective=objective, warmup_fraction=0.2)
    numbers = computation(run.method, run.training.precision, device="cpu")
    settings = trainer_settings(run, numbers, folder=tmp_path, steps=100, end_to_end=False)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=settings.learning_rate)
    schedule = get_scheduler(
        settings.lr_scheduler_type, optimizer, settings.get_warmup_steps(100), 100, settings.lr_scheduler_kwargs
    )
    share = [schedule.lr_lambdas[0](step) for step in (5, 20, 60, 100)]

    assert settings.learning_rate == 5e-3
    assert share == pytest.approx([0.25, 1.0, half, last])
