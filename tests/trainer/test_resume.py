"""A run that was stopped and went on is, bit for bit, the run that was never stopped: losses and what is published."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.running import IN_PROCESS, losses, stopped_at, trained
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = IN_PROCESS

RUNS: list[tuple[str, dict[str, Any]]] = [
    ("lora", {"packing": True}),
    ("lora", {"variant": "dora", "dropout": 0.1}),
    ("qlora", {}),
    ("full", {}),
    ("full", {"precision": "bf16", "optimizer": "adamw-8bit"}),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "chats.jsonl", rows=60)


@pytest.mark.parametrize(("method", "changes"), RUNS, ids=str)
def test_a_resumed_run_is_the_uninterrupted_one(
    tmp_path: Path, model: Path, data: Path, method: str, changes: dict[str, Any]
) -> None:
    """Stopped after step 3 of 6, and resumed by the next attempt."""
    whole = a_run(tmp_path / "whole", model=model, data=data, method=method, max_steps=6, prompts=(), **changes)
    halved = a_run(tmp_path / "halved", model=model, data=data, method=method, max_steps=6, prompts=(), **changes)

    trained(whole, tmp_path / "whole")
    stopped = stopped_at(halved, tmp_path / "halved", step=3)
    resumed = trained(replace(halved, attempt=1), tmp_path / "halved")

    assert (stopped.outcome, stopped.checkpoint_step, resumed.outcome) == ("Preempted", 3, "Succeeded")
    assert losses(tmp_path / "halved") == losses(tmp_path / "whole")
    assert differing(published(tmp_path / "whole"), published(tmp_path / "halved")) == []


def published(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the published adapter or model."""
    (file,) = [path for kind in ("adapter", "model") for path in (folder / "out" / kind).glob("*.safetensors")]
    return load_file(file)


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """Return the names of tensors that are not the same bits in the same dtype."""
    assert one.keys() == other.keys()
    same = {name for name in one if one[name].dtype == other[name].dtype and torch.equal(one[name], other[name])}
    return sorted(one.keys() - same)
