"""Weight files and configurations that contradict each other, are damaged or belong to no language model: preflight says which."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_trainer.model.load import stored_dtype
from finetune_trainer.preflight.examine import examine
from safetensors.numpy import save_file
from safetensors.torch import save_file as torch_save_file

from tests.trainer.data_inputs import (
    llama_tensors,
    model,
    without,
    zeros,
)

Tensors = dict[str, Any]
Q = "model.layers.0.self_attn.q_proj"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 29400\n"
RANDOM = "They would be filled with random numbers; copy the model's files again, or save it again with all its weights"
COPY = "Copy it again from the source of the model and compare the sizes"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (lambda file: b"", f"model.safetensors of MODEL is empty. {COPY}"),
        (
            lambda file: POINTER.encode(),
            "model.safetensors of MODEL is a git-lfs pointer, not the file itself: run `git lfs pull` in the repository and "
            "copy it again",
        ),
        (
            lambda file: file[:-100],
            f"model.safetensors of MODEL is truncated: its header describes 29,400 bytes, but the file has 29,300. {COPY}",
        ),
        (lambda file: file[:100], f"model.safetensors of MODEL is truncated: its header is 1,144 bytes long, the file 100. {COPY}"),
        (
            lambda file: file + b"more",
            f"model.safetensors of MODEL is damaged: its header describes 29,400 bytes, but the file has 29,404. {COPY}",
        ),
        (
            lambda file: b"<!doctype html>",
            f"model.safetensors of MODEL is not a safetensors file: it does not begin with the length of a header. {COPY}",
        ),
        (
            lambda file: file.replace(b"[400,8]", b"[300,8]"),
            f"model.safetensors of MODEL is damaged: the size of lm_head.weight does not match its shape and type. {COPY}",
        ),
    ],
)  # fmt: skip
def test_a_damaged_weight_file_is_refused(refused, written: Callable[[bytes], bytes], message: str) -> None:
    """Its header alone says how long it must be."""

    def write(folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(written(file.read_bytes()))

    assert refused(files=write) == ("ModelInvalid", message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {f"_orig_mod.{name}": tensor for name, tensor in t.items()},
            "12 of 12 tensors of MODEL have _orig_mod in their names (_orig_mod.lm_head.weight, "
            "_orig_mod.model.embed_tokens.weight, "
            "_orig_mod.model.layers.0.input_layernorm.weight and 9 more), which torch.compile adds: transformers "
            "would not find them. Save the unwrapped model with save_pretrained, or remove _orig_mod from the names",
        ),
        (
            lambda t: {f"base_model.model.{name}": tensor for name, tensor in t.items()},
            "12 of 12 tensors of MODEL have base_model in their names (base_model.model.lm_head.weight, "
            "base_model.model.model.embed_tokens.weight, base_model.model.model.layers.0.input_layernorm.weight and 9 "
            "more), which a "
            "PEFT model adds: transformers would not find them. Save the unwrapped model with save_pretrained, or remove "
            "base_model from the names",
        ),
        (
            lambda t: {f"net.{name}": tensor for name, tensor in t.items()},
            "none of the 12 tensors of MODEL belongs to a layer of its model type: they are named net.lm_head.weight, "
            "net.model.embed_tokens.weight, net.model.layers.0.input_layernorm.weight and 9 more, but names such as "
            "model.embed_tokens.weight and model.layers.0. are expected. The model would start from random numbers; save it "
            "again with save_pretrained of its transformers class",
        ),
        (
            lambda t: without(t, "model.norm.weight"),
            f"MODEL lacks 1 of the tensors that its config.json asks for: model.norm.weight. {RANDOM}",
        ),
        (
            lambda t: t | {f"{Q}.gamma": zeros(8)},
            f"MODEL holds 1 tensor that a model of type llama does not have with this config.json: {Q}.gamma. They would be "
            "dropped; use the config.json that was saved with these weights, or remove these tensors",
        ),
        (
            lambda t: t | {name.replace(".0.", ".1."): tensor for name, tensor in t.items()},
            "MODEL has 2 layers, but config.json says num_hidden_layers 1: the others (1) would be dropped; use the "
            "config.json that was saved with these weights",
        ),
    ],
)  # fmt: skip
def test_names_that_do_not_match_the_family_are_refused(
    refused, change: Callable[[Tensors], Tensors], message: str
) -> None:
    """transformers fills in random numbers, or drops what it does not know, and trains."""
    assert refused(change) == ("ModelInvalid", message)


def test_a_decoder_without_head_that_ties_it_is_whole(job, tmp_path, workspaces) -> None:
    """As embedding classes save it: without the prefix, which transformers adds."""
    folder = model(tmp_path / "model", tie_word_embeddings=True)
    tensors = {name.removeprefix("model."): tensor for name, tensor in llama_tensors().items() if "lm_head" not in name}
    save_file(tensors, folder / "model.safetensors")

    assert examine(job, workspaces()).reason == "Prepared"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"num_hidden_layers": 3},
            "MODEL lacks 2 of the 3 layers that config.json asks for (num_hidden_layers): 1 to 2. They would be filled with random "
            "numbers; copy the model's files again, or correct num_hidden_layers",
        ),
        (
            {"vocab_size": 600},
            "MODEL holds 2 tensors whose shape does not match config.json: lm_head.weight is 400 x 8, config.json says "
            "vocab_size 600, hidden_size 8. Use the config.json that was saved with these weights",
        ),
        (
            {"intermediate_size": 32},
            "MODEL holds 3 tensors whose shape does not match config.json: model.layers.0.mlp.down_proj.weight is 8 x 16, "
            "config.json says hidden_size 8, intermediate_size 32. Use the config.json that was saved with these weights",
        ),
        (
            {"hidden_size": 0},
            "config.json of MODEL says hidden_size 0, which is not a valid size: use the config.json that was saved with "
            "the weights",
        ),
        (
            {"rope_scaling": {"rope_type": "yarn"}},
            "transformers 5.23.0 cannot read config.json of MODEL: \"Missing required keys in `rope_parameters` for "
            "'rope_type'='yarn': {'factor'}\". Use the config.json that was saved with the weights",
        ),
    ],
)  # fmt: skip
def test_a_config_of_other_weights_is_refused(refused, config: dict[str, Any], message: str) -> None:
    """Sizes and layers, before a GPU is asked for."""
    assert refused(**config) == ("ModelInvalid", message)


def _in_parts(folder: Path, *, index: bool, second: bool = True) -> None:
    tensors, parts = llama_tensors(), [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    where = {name: parts[number > 5] for number, name in enumerate(sorted(tensors))}
    (folder / "model.safetensors").unlink()
    for part in parts[: 1 + second]:
        save_file({name: tensor for name, tensor in tensors.items() if where[name] == part}, folder / part)
    if index:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def test_parts_without_an_index_are_refused(refused) -> None:
    """transformers finds no weights then; the names say how many parts there should be."""
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"

    assert refused(files=lambda folder: _in_parts(folder, index=False)) == (
        "ModelInvalid",
        f"MODEL has its weights in parts ({first}, {second}) but no model.safetensors.index.json: copy all files of the model",
    )


def test_a_lost_part_is_named(refused) -> None:
    """Part 2 of 2."""
    assert refused(files=lambda folder: _in_parts(folder, index=False, second=False)) == (
        "ModelInvalid",
        "MODEL has its weights in parts (model-00001-of-00002.safetensors) but no model.safetensors.index.json and lacks 1 "
        "of 2 parts, "
        "such as part 2: copy all files of the model",
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_type_of_most_weights_is_reported(dtype: str, job, tmp_path, workspaces) -> None:
    """As the trainer finds it, which publishes a full fine-tune in it; norms may be kept in another."""
    folder = tmp_path / "model"
    tensors = {name: torch.from_numpy(value).to(getattr(torch, dtype)) for name, value in llama_tensors().items()}
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()
    torch_save_file(tensors, folder / "model.safetensors")

    report = examine(job, workspaces()).preflight

    assert report.model_dtype == dtype
    assert stored_dtype(folder) == getattr(torch, dtype)


def test_weights_that_lie_there_twice_are_counted_once(job, tmp_path, workspaces) -> None:
    """Mistral's repositories hold a consolidated copy beside the parts."""
    folder = tmp_path / "model"
    _in_parts(folder, index=True)
    save_file(llama_tensors(), folder / "consolidated.safetensors")

    report = examine(job, workspaces()).preflight

    assert report.model_bytes == sum(file.stat().st_size for file in folder.glob("model-*.safetensors"))
    assert report.warnings[0] == (
        f"file://{folder} also holds consolidated.safetensors: the weights are read from "
        "model-00001-of-00002.safetensors, model-00002-of-00002.safetensors only"
    )


def _instead(name: str, text: str = "x") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_text(text)

    return write


@pytest.mark.parametrize(
    ("files", "reason", "message"),
    [
        (
            _instead("m.Q4_K_M.gguf"), "ModelUnsupported",
            "MODEL holds a GGUF file (m.Q4_K_M.gguf), a format for inference only: set spec.model.source to the original "
            "model, which has config.json and .safetensors files",
        ),
        (
            _instead("consolidated.safetensors"), "ModelUnsupported",
            "MODEL has its weights only in the format of Meta's or Mistral's own code (consolidated.safetensors): use a repository "
            "that has config.json and model.safetensors, or parts of it with model.safetensors.index.json",
        ),
        (
            _instead("pytorch_model.bin"), "ModelUnsupported",
            "MODEL has its weights in pickle files only (pytorch_model.bin), which can run code when loaded: only "
            "safetensors are read. Load it where running that code is safe and save it with save_pretrained, which writes "
            "model.safetensors",
        ),
        (
            _instead("weights.safetensors"), "ModelInvalid",
            "MODEL has no model.safetensors, only weights.safetensors: if that is the whole model, rename it to model.safetensors",
        ),
        (
            _instead("adapter_config.json", "{}"), "ModelUnsupported",
            "MODEL is an adapter (it holds adapter_config.json), not a whole model: set spec.model.source to its "
            "base model and spec.lora.initialAdapter to the adapter",
        ),
        (
            _instead("adapter_config.json", '{"base_model_name_or_path": "acme/lm-7b"}'), "ModelUnsupported",
            "MODEL is an adapter (it holds adapter_config.json), not a whole model: set spec.model.source to its "
            "base model (acme/lm-7b) and spec.lora.initialAdapter to the adapter",
        ),
        (
            lambda folder: (folder / "adapter_config.json").write_text("{}"), "ModelInvalid",
            "MODEL holds adapter_config.json beside the weights of a whole model: transformers would load the base model "
            "that it names "
            "instead. Remove adapter_config.json",
        ),
        (
            lambda folder: (folder / "tokenizer.json").write_text(POINTER), "ModelInvalid",
            "tokenizer.json of MODEL is a git-lfs pointer, not the file itself: run `git lfs pull` in the repository and "
            "copy it again",
        ),
        (
            lambda folder: (folder / "generation_config.json").write_text("{,"), "ModelInvalid",
            "generation_config.json of MODEL is not JSON (Expecting property name enclosed in double quotes: line 1 column "
            "2 (char 1)): "
            "copy it again, or correct it",
        ),
        (
            lambda folder: (folder / "generation_config.json").write_text('{"eos_token_id": [99999]}'), "ModelInvalid",
            "generation_config.json of MODEL has eos_token_id 99999, which is not one of its 400 token ids: generation would "
            "never stop there. Set it to the id of the token that ends an answer",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}'), "ModelInvalid",
            "config.json of MODEL has no model_type (LlamaForCausalLM): use the config.json that transformers saved with the model",
        ),
    ],
)  # fmt: skip
def test_files_of_other_formats_are_named(refused, files: Callable[[Path], Any], reason: str, message: str) -> None:
    """What lies there, and what is needed."""
    assert refused(files=files) == (reason, message)
