"""Models that transformers saves by other names than its classes have: experts lie one by one. They are taken up whole again."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_contract import Outcome, RunConfig
from finetune_trainer.model.saved import saved_weights, with_weights
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.trainer.running import IN_PROCESS, losses, stopped_at, trained
from tests.trainer.test_hand_over import STOPPING
from tests.trainer.test_resume import differing, published
from tests.trainer.test_sharded import in_two_ranks, stored_in_bfloat16
from tests.trainer.test_stored_dtypes import glm
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]

RANKS = {"gpus_per_replica": 2, "micro_batch_size": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60)


def mixtral(folder: Path) -> Path:
    return tiny_model(folder, "mixtral")


def carried_out(run: RunConfig, folder: Path) -> Outcome:
    """Train in one process, or in two ranks where the run is sharded."""
    return in_two_ranks(run, folder)[0] if run.layout.zero_stage else trained(run, folder)


@pytest.mark.parametrize("base", [mixtral, glm])
def test_a_resumed_run_goes_on_with_the_experts_that_it_trained(
    tmp_path: Path, data: Path, base: Callable[[Path], Path]
) -> None:
    """transformers' own resume leaves those of the base in the model, and says so in the log only."""
    model = base(tmp_path / "base")
    whole, cut = (
        a_run(
            tmp_path / name, model=model, data=data, method="full", max_steps=6, learning_rate=1e-3, prompts=(), baseline=False
        )
        for name in ("whole", "cut")
    )  # fmt: skip
    trained(whole, tmp_path / "whole")
    stopped_at(cut, tmp_path / "cut", step=3)
    trained(replace(cut, attempt=1), tmp_path / "cut")

    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert differing(published(tmp_path / "whole"), published(tmp_path / "cut")) == []


@pytest.mark.parametrize("stage", [0, 2])
def test_the_best_weights_are_put_back_with_their_experts(tmp_path: Path, data: Path, stage: int) -> None:
    """Such a run used to fail when all was trained: names were missing."""
    run = a_run(
        tmp_path, model=mixtral(tmp_path / "base"), data=data, method="full", learning_rate=1e-3, precision="bf16",
        prompts=(), baseline=False, **STOPPING, **(RANKS | {"zero_stage": stage} if stage else {}),
    )  # fmt: skip
    done = carried_out(run, tmp_path)

    assert (done.reason, done.step) == ("Published", 4)
    best = load_file(tmp_path / "out/.checkpoints/best-attempt-0-step-2/model.safetensors")
    assert differing(published(tmp_path), {name: value.float() for name, value in best.items()}) == []


@pytest.mark.parametrize("stage", [2, 3])
def test_weights_alone_hold_the_experts(tmp_path: Path, data: Path, stage: int) -> None:
    """A sharded attempt that goes on after the last step publishes what the first one did."""
    model = stored_in_bfloat16(mixtral(tmp_path / "float32"), tmp_path / "base")
    changes: dict[str, Any] = {
        "method": "full",
        "precision": "bf16",
        "learning_rate": 1e-3,
        "max_steps": 2,
        "prompts": (),
    }
    first, second = (
        a_run(tmp_path / name, model=model, data=data, zero_stage=stage, **RANKS, **changes)
        for name in ("first", "second")
    )
    carried_out(first, tmp_path / "first")
    shutil.copytree(tmp_path / "first/out/.checkpoints", tmp_path / "second/out/.checkpoints")
    resumed = carried_out(replace(second, attempt=1), tmp_path / "second")

    assert (resumed.reason, resumed.step, resumed.training_seconds) == ("Published", 2, 0.0)
    assert differing(published(tmp_path / "first"), published(tmp_path / "second")) == []


@pytest.mark.parametrize("family", ["llama", "mixtral", "gemma4"])
def test_saved_weights_have_the_names_and_bits_of_the_model(tmp_path: Path, family: str) -> None:
    """All but those that are another's."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path / "base", family), dtype=torch.float32)
    model.save_pretrained(tmp_path / "saved", max_shard_size="50KB")
    found, own = dict(saved_weights(model, tmp_path / "saved")), model.state_dict()

    assert len(list((tmp_path / "saved").glob("*.safetensors"))) > 1
    assert own.keys() - set(model.all_tied_weights_keys) == found.keys()
    assert [name for name, value in found.items() if not torch.equal(value, own[name])] == []


def test_code_that_lies_beside_a_checkpoint_is_not_executed(tmp_path: Path) -> None:
    """The run pins the model's own code; whoever may write to the checkpoints' bucket must not run any."""
    base, saved = tmp_path / "base", tmp_path / "saved"
    for folder, files in (
        (
            base,
            ("config.json", "mine.py", "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"),
        ),
        (saved, ("config.json", "mine.py", "other.py", "model.safetensors", "optimizer.pt")),
    ):
        folder.mkdir()
        for name in files:
            (folder / name).write_text(folder.name)

    found = with_weights(base, saved, with_weights(base, saved, tmp_path / "laid-out"))

    assert {path.name: path.read_text() for path in found.iterdir()} == {
        "config.json": "base", "mine.py": "base", "model.safetensors": "saved",
    }  # fmt: skip
