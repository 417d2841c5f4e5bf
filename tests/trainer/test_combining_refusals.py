"""Adapters that do not go together, or are broken: each is refused by name, and nothing is published."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer.errors import UserError
from safetensors.torch import load_file, save_file

from tests.trainer.running import IN_PROCESS
from tests.trainer.test_combining import adapter, asked, made
from tests.trainer.tiny import tiny_model

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"), "qwen2")


def cut(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def of_another_kind(folder: Path) -> None:
    described = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(described | {"peft_type": "LOHA"}))


def rewritten(folder: Path, change: Callable[[str, torch.Tensor], tuple[str, torch.Tensor]]) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(dict(change(*pair) for pair in tensors.items()), folder / "adapter_model.safetensors")


def diverged(folder: Path) -> None:
    rewritten(folder, lambda name, tensor: (name, tensor / 0 if "1.self_attn.v_proj.lora_B" in name else tensor))


def narrower(folder: Path) -> None:
    rewritten(folder, lambda name, tensor: (name, tensor[:-2].clone() if "lora_B" in name else tensor))


def wrapped(folder: Path) -> None:
    rewritten(folder, lambda name, tensor: (name.replace(".model.layers.", ".model.language_model.layers."), tensor))


def named(folder: Path) -> None:
    rewritten(folder, lambda name, tensor: (name.replace(".weight", ".default.weight"), tensor))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "adapter_model.safetensors of TWO is not whole: copy the adapter again"),
        (
            pickled,
            "TWO has no adapter_model.safetensors: save the adapter with save_pretrained of PEFT, in safetensors",
        ),
        (of_another_kind, "TWO is a LOHA adapter: only LoRA adapters can be combined"),
        (
            diverged,
            "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight of TWO holds values that are no numbers: its training "
            "diverged. Leave this adapter out",
        ),
        (
            narrower,
            "model.layers.0.self_attn.q_proj is 64 x 64 in ONE and 62 x 64 in TWO: they belong to different base models",
        ),
        (
            wrapped,
            "TWO calls model.language_model.layers.0.self_attn.q_proj what ONE calls model.layers.0.self_attn.q_proj: they were saved "
            "from differently wrapped models, and a server would ignore one of them. Save both from the same class of model",
        ),
        (
            named,
            "TWO holds base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight and 7 more: only pairs of lora_A.weight "
            "and lora_B.weight can be combined",
        ),
    ],
)
def test_an_adapter_that_is_broken_is_refused_by_name(
    tmp_path: Path, base: Path, spoil: Callable[[Path], None], message: str
) -> None:
    """Before anything is published: what of it would be lost, or would spoil the others."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2)
    spoil(two)

    with pytest.raises(UserError) as refusal:
        made(asked(tmp_path, (one, 1), (two, 1)), tmp_path)
    assert refusal.value.message.replace(f"file://{one}", "ONE").replace(f"file://{two}", "TWO") == message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("parts", "described", "message"),
    [
        (
            {},
            {"base_model_name_or_path": "org/other"},
            "TWO belongs to org/other, and ONE to BASE: only adapters of one",
        ),
        (
            {},
            {"revision": "d" * 40},
            f"TWO belongs to BASE at revision {'d' * 40}, and ONE to BASE: only adapters of one",
        ),
        ({"use_dora": True}, {}, "TWO has DoRA, which cannot be combined: use adapters of LoRA matrices only"),
        (
            {"init_lora_weights": "pissa"}, {},
            "TWO has an initialisation that changes the base weights (PiSSA, OLoRA, CorDA, LoftQ), which cannot be combined",
        ),
        ({"alora_invocation_tokens": [5]}, {}, "TWO has invocation tokens (aLoRA), which cannot be combined"),
        ({"modules_to_save": ["lm_head"]}, {}, "TWO has whole modules (modulesToSave), which cannot be combined"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, base: Path, parts: dict[str, Any], described: dict[str, Any], message: str
) -> None:
    """Another base, another revision, or more than LoRA matrices: nothing is published."""
    one, two = adapter(tmp_path / "one", base, 1), adapter(tmp_path / "two", base, 2, **parts)
    config = json.loads((two / "adapter_config.json").read_text())
    (two / "adapter_config.json").write_text(json.dumps(config | described))

    with pytest.raises(UserError) as refusal:
        made(asked(tmp_path, (one, 1), (two, 1)), tmp_path)

    said = refusal.value.message.replace(f"file://{one}", "ONE").replace(f"file://{two}", "TWO")
    assert said.replace(str(base), "BASE").startswith(message)
    assert not (tmp_path / "out").exists()
