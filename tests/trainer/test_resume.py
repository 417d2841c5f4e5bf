"""A run that was stopped and went on is, bit for bit, the run that was never stopped: losses and what is published."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.optim import PagedAdamW8bit
from finetune_trainer.training.paged import page_again
from safetensors.torch import load_file
from transformers import TrainerCallback

from tests.trainer.running import IN_PROCESS, carried_out, losses, stopped_at, trained
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = [*IN_PROCESS, pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")]

RUNS: list[tuple[str, dict[str, Any]]] = [
    ("lora", {"packing": True}),
    ("lora", {"variant": "dora", "dropout": 0.1}),
    ("qlora", {}),
    ("full", {}),
    ("full", {"precision": "bf16", "optimizer": "adamw-8bit"}),
    ("full", {"precision": "bf16", "optimizer": "paged-adamw-8bit"}),
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


class MapsAtTheBeginning(TrainerCallback):
    """Notes which files this process has mapped when training begins."""

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.maps = Path("/proc/self/maps").read_text()


def test_a_resume_maps_the_states_of_the_optimizer(tmp_path: Path, model: Path, data: Path) -> None:
    """Read, they would be in host memory at once, where a Pod has no room for 8 bytes of each weight."""
    run = a_run(tmp_path, model=model, data=data, method="full", max_steps=4, prompts=())
    stopped_at(run, tmp_path, step=2)
    seen = MapsAtTheBeginning()
    carried_out(replace(run, attempt=1), tmp_path, seen)

    assert "/optimizer.pt" in seen.maps


def test_states_in_pages_are_paged_again_after_a_resume() -> None:
    """bitsandbytes loads them as ordinary tensors; they move, bit for bit, into buffers that the optimizer makes itself."""
    weights = torch.nn.Parameter(torch.randn(512, 256, generator=torch.Generator().manual_seed(1)))
    weights.grad = torch.randn(512, 256, generator=torch.Generator().manual_seed(2))
    first, resumed = PagedAdamW8bit([weights]), PagedAdamW8bit([weights])
    first.step()
    resumed.load_state_dict(first.state_dict())
    loaded = dict(resumed.state[weights])
    page_again(resumed)

    state = resumed.state[weights]
    assert {name for name in state if state[name] is not loaded[name]} == {"state1", "state2"}
    assert all(torch.equal(state[name], loaded[name]) for name in ("state1", "state2"))


def published(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the published adapter or model."""
    (file,) = [path for kind in ("adapter", "model") for path in (folder / "out" / kind).glob("*.safetensors")]
    return load_file(file)


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """Return the names of tensors that are not the same bits in the same dtype."""
    assert one.keys() == other.keys()
    same = {name for name in one if one[name].dtype == other[name].dtype and torch.equal(one[name], other[name])}
    return sorted(one.keys() - same)
