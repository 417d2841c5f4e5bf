"""An attempt that goes on from weights alone in another layout: it publishes what the one that trained them would have published."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Outcome, RunConfig
from finetune_trainer.exporting.export import export
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.trainer.running import IN_PROCESS, trained
from tests.trainer.test_hand_over import asked
from tests.trainer.test_resume import differing, published
from tests.trainer.test_sharded import in_two_ranks, stored_in_bfloat16
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]

STORED = {"float32": lambda base, _folder: base, "bfloat16": stored_in_bfloat16}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60)


def at_stage(stage: int, folder: Path, changes: dict[str, Any]) -> RunConfig:
    """The run on one GPU, or sharded over two. On the hub's GPUs a sharded one computes in bfloat16, as here where it is asked to."""
    layout = {"gpus_per_replica": 2, "micro_batch_size": 2, "zero_stage": stage} if stage else {}
    full = {"precision": "bf16" if stage else "mixed"} if changes["method"] == "full" else {}
    return a_run(folder, **full, **layout, **changes)


def carried_out(run: RunConfig, folder: Path) -> Outcome:
    return in_two_ranks(run, folder)[0] if run.layout.zero_stage else trained(run, folder)


@pytest.mark.parametrize(
    ("stored", "stages", "method"),
    [
        ("float32", (0, 2), {"method": "full"}),
        ("float32", (0, 3), {"method": "full"}),
        ("bfloat16", (0, 3), {"method": "full"}),
        ("bfloat16", (2, 0), {"method": "full"}),
        ("float32", (0, 2), {"method": "lora"}),
        ("float32", (0, 3), {"method": "lora", "variant": "dora"}),
        ("float32", (0, 2), {"method": "lora", "modules_to_save": ("embed_tokens",)}),
    ],
)
def test_the_next_attempt_has_another_layout(
    tmp_path: Path, data: Path, stored: str, stages: tuple[int, int], method: dict[str, Any]
) -> None:
    """No step is trained; masters of float32 weights keep all their digits."""
    base = STORED[stored](tiny_model(tmp_path / "float32"), tmp_path / "base")
    changes = {
        "model": base,
        "data": data,
        "max_steps": 4,
        "learning_rate": 5e-4,
        "prompts": (),
        "baseline": False,
        **method,
    }
    first, second = (at_stage(stage, tmp_path / name, changes) for name, stage in zip(("a", "b"), stages, strict=True))
    carried_out(first, tmp_path / "a")
    shutil.copytree(tmp_path / "a/out/.checkpoints", tmp_path / "b/out/.checkpoints")
    resumed = carried_out(replace(second, attempt=1), tmp_path / "b")

    assert (resumed.reason, resumed.step, resumed.training_seconds) == ("Published", 4, 0.0)
    assert differing(published(tmp_path / "a"), published(tmp_path / "b")) == []


def test_tied_weights_are_handed_over_once(tmp_path: Path, data: Path) -> None:
    """A checkpoint of ZeRO-2 holds them twice, also for an attempt that runs without sharding."""
    base = stored_in_bfloat16(tiny_model(tmp_path / "float32"), tmp_path / "base")
    changes = {"method": "full", "model": base, "data": data, "max_steps": 2, "prompts": (), "baseline": False}
    run = at_stage(2, tmp_path, changes)
    in_two_ranks(run, tmp_path / "first")
    checkpoint = load_file(tmp_path / "out/.checkpoints/attempt-0-step-2/model.safetensors")
    shutil.rmtree(tmp_path / "out/model")
    (tmp_path / "out/finetune-manifest.json").unlink()
    alone = replace(at_stage(0, tmp_path, changes), attempt=1, hand_over=True)
    assert trained(alone, tmp_path / "second").reason == "Trained"
    export(asked(alone), tmp_path / "pod")

    assert {"lm_head.weight", "model.embed_tokens.weight"} <= checkpoint.keys()
    left_out = checkpoint.keys() - load_file(tmp_path / "out/model/model.safetensors").keys()
    assert left_out == {"lm_head.weight"}
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out/model").lm_head.weight is not None
