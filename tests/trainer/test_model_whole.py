"""Weights that are missing, left over or of another shape end a run, in the base model and in the adapter it starts from."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from finetune_contract import Location, RunConfig
from finetune_trainer.errors import UserError
from finetune_trainer.model import load as models
from finetune_trainer.model.precision import computation
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.trainer.running import IN_PROCESS
from tests.trainer.tiny import A_LORA, a_run, tiny_model

pytestmark = IN_PROCESS

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    """A run of a tiny Llama whose files a test may change."""
    return a_run(tmp_path, model=tiny_model(tmp_path / "base"), data=tmp_path / "data.jsonl")


def _built(run: RunConfig, folder: Path) -> torch.nn.Module:
    return models.base_model(folder, run, computation(run.method, run.training.precision, device="cpu"))


def _changed(file: Path, change: Callable[[Tensors], Tensors]) -> None:
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def _refusal(run: RunConfig, folder: Path) -> tuple[str, str]:
    with pytest.raises(UserError) as found:
        _built(run, folder)
    return found.value.reason, found.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()},
            "{uri} lacks 21 tensors, which would start from random numbers: lm_head.weight, model.embed_tokens.weight, "
            "model.layers.0.input_layernorm.weight and 18 more; save the model again with all "
            "its weights",
        ),
        (
            lambda tensors: {name: tensor for name, tensor in tensors.items() if name != "model.norm.weight"},
            "{uri} lacks 1 tensor, which would start from random numbers: model.norm.weight; save the model again with all its "
            "weights",
        ),
        (
            lambda tensors: tensors | {"score.weight": torch.zeros(2, 64)},
            "{uri} holds 1 tensor that its class does not have and would drop: score.weight; use the config.json that was saved with these "
            "weights",
        ),
        (
            lambda tensors: tensors | {"model.embed_tokens.weight": torch.zeros(600, 64)},
            "{uri} holds 1 tensor whose shape does not match config.json: model.embed_tokens.weight (600 x 64, config.json says "
            "512 x 64); use the config.json that was saved with these weights",
        ),
    ],
)  # fmt: skip
def test_a_base_model_that_is_not_whole_is_refused(
    tmp_path: Path, run: RunConfig, change: Callable[[Tensors], Tensors], message: str
) -> None:
    """transformers would fill in random numbers, or drop what it does not know, with a line in the log."""
    _changed(tmp_path / "base" / "model.safetensors", change)

    assert _refusal(run, tmp_path / "base") == ("ModelInvalid", message.format(uri=f"file://{tmp_path}/base"))


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_a_whole_model_is_loaded_by_every_method(tmp_path: Path, run: RunConfig, method: str) -> None:
    """Tied: the head is not in the file, and not missing."""
    changes = {"method": method} | ({"lora": None} if method == "full" else {})

    assert "lm_head.weight" not in load_file(tmp_path / "base" / "model.safetensors")
    assert _built(replace(run, **changes), tmp_path / "base").config.vocab_size == 512


def test_a_weight_file_that_is_cut_is_refused(tmp_path: Path, run: RunConfig) -> None:
    """It may be cut after preflight, or on its way to this Pod."""
    file = tmp_path / "base" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])

    reason, message = _refusal(run, tmp_path / "base")

    assert reason == "ModelInvalid"
    assert message.startswith(f"a weight file of file://{tmp_path}/base cannot be read (")
    assert message.endswith("): copy the model's files again")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(run: RunConfig, value: float) -> None:
    """A merge in float16 overflows; every loss of the run would be none either."""
    folder = Path(run.model.location.uri.removeprefix("file://"))
    name = "model.layers.1.mlp.down_proj.weight"

    def one(tensors: Tensors) -> Tensors:
        tensors[name][3, 5] = value
        return tensors

    _changed(folder / "model.safetensors", one)

    assert _refusal(run, folder) == (
        "ModelInvalid",
        f"{run.model.location.uri} holds 1 tensor with values that are infinite or not a number: {name}; a merge or a conversion to "
        "float16 overflowed: make the model again in bfloat16",
    )


def _continued(run: RunConfig, folder: Path) -> torch.nn.Module:
    asked = replace(run, lora=replace(A_LORA, initial_adapter=Location(uri=f"file://{folder}")))
    return models.with_initial_adapter(_built(run, Path(run.model.location.uri.removeprefix("file://"))), folder, asked)


def _adapter(run: RunConfig, folder: Path) -> Path:
    base = AutoModelForCausalLM.from_pretrained(run.model.location.uri.removeprefix("file://"))
    get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")).save_pretrained(
        folder
    )
    return folder


def _adapter_refusal(run: RunConfig, folder: Path) -> tuple[str, str]:
    with pytest.raises(UserError) as found:
        _continued(run, folder)
    return found.value.reason, found.value.message.replace(str(folder.parent), "")


def test_an_adapter_that_is_not_whole_is_refused(tmp_path: Path, run: RunConfig) -> None:
    """PEFT starts what is missing anew and drops what matches nothing."""
    layer = "base_model.model.model.layers.1.self_attn.v_proj"
    folder = _adapter(run, tmp_path / "adapter")
    file = folder / "adapter_model.safetensors"
    assert sum("lora_" in name for name, _ in _continued(run, folder).named_parameters()) == 8
    whole = load_file(file)

    save_file({name: tensor for name, tensor in whole.items() if not name.startswith(layer)}, file)
    assert _adapter_refusal(run, folder) == (
        "ModelInvalid",
        f"file:///adapter lacks 2 tensors, which would start from scratch: {layer}.lora_A.weight, {layer}.lora_B.weight; save "
        "the adapter again with save_pretrained",
    )
    save_file(whole | {f"{layer.replace('1', '7')}.lora_A.weight": torch.zeros(4, 64)}, file)
    assert _adapter_refusal(run, folder) == (
        "ModelInvalid",
        "file:///adapter holds 1 tensor that match no layer of the base model: "
        f"{layer.replace('1', '7')}.lora_A.weight; name the base model that it was trained on",
    )


def test_an_adapter_of_another_model_is_refused(tmp_path: Path, run: RunConfig) -> None:
    """Of other sizes, then for layers of other names."""
    folder = _adapter(run, tmp_path / "adapter")
    other = tiny_model(tmp_path / "other", hidden_size=32)
    elsewhere = replace(run, model=replace(run.model, location=Location(uri=f"file://{other}")))
    reason, message = _adapter_refusal(elsewhere, folder)
    assert (reason, "size mismatch" in message) == ("ModelUnsupported", True)

    config = json.loads((folder / "adapter_config.json").read_text()) | {"target_modules": ["c_attn"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    reason, message = _adapter_refusal(run, folder)
    assert (reason, "c_attn" in message) == ("ModelUnsupported", True)
    assert message.startswith("the adapter file:///adapter does not belong to this base model: ")
