"""Folders that people take for a model: checkpoints of other programs, adapters, a folder too high. Preflight says what each is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finetune_trainer.preflight.examine import examine
from safetensors.numpy import load_file, save_file

from tests.trainer.data_inputs import llama_tensors, without, zeros

Tensors = dict[str, Any]
L = "model.layers.0.self_attn"
CLASS = "save the model again with save_pretrained of its transformers class"
CONFIG = "use the config.json that was saved with these weights"
ADAPTER = "not a whole model: set spec.model.source to its base model and spec.lora.initialAdapter to the adapter"
OWN = "use a repository that has config.json and model.safetensors, or parts of it with model.safetensors.index.json"


def instead(name: str) -> Callable[[Path], None]:
    """Put another file in the place of the weights."""

    def write(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")

    return write


def below(name: str) -> Callable[[Path], None]:
    """Move the whole model into a folder of its own."""

    def move(folder: Path) -> None:
        (folder / name).mkdir(parents=True)
        for file in [file for file in folder.iterdir() if file.is_file()]:
            shutil.move(file, folder / name / file.name)

    return move


def consolidated(folder: Path) -> None:
    """What Mistral's own code reads."""
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    (folder / "config.json").unlink()


def diffusion(folder: Path) -> None:
    """What diffusers saves."""
    (folder / "config.json").rename(folder / "model_index.json")


def in_parts(folder: Path, *, named: str = "{}-of-00002", again: str = "", keep: bool = False) -> None:
    """Write the weights in two parts and an index; `again` is a tensor that both hold."""
    tensors = load_file(folder / "model.safetensors")
    if not keep:
        (folder / "model.safetensors").unlink()
    weight_map = {}
    for number, names in enumerate((sorted(tensors)[:5], sorted(tensors)[5:]), start=1):
        part = {name: tensors[name] for name in {*names, *([again] if again else [])}}
        save_file(part, folder / f"model-0000{number}-of-00002.safetensors")
        weight_map |= {name: f"model-{named.format(f'0000{number}')}.safetensors" for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize(
    ("files", "reason", "message"),
    [
        (
            instead("pytorch_model_fsdp_0/__0_0.distcp"),
            "ModelUnsupported",
            "MODEL is an FSDP checkpoint (pytorch_model_fsdp_0/__0_0.distcp): convert it with `accelerate merge-weights`, and copy "
            "the model.safetensors that it writes next to config.json",
        ),
        (
            instead("global_step9/zero_pp_rank_0_mp_rank_00_optim_states.pt"),
            "ModelUnsupported",
            "MODEL is a DeepSpeed checkpoint (global_step9/zero_pp_rank_0_mp_rank_00_optim_states.pt): convert it with its "
            "zero_to_fp32.py and --safe_serialization, and copy the .safetensors files that it writes next to config.json",
        ),
        (
            instead(".cache/huggingface/download/model.safetensors.abc.incomplete"),
            "ModelInvalid",
            "the download of MODEL did not finish (.cache/huggingface/download/model.safetensors.abc.incomplete): download the "
            "model again",
        ),
        (
            instead("original/consolidated.00.pth"),
            "ModelUnsupported",
            f"MODEL has its weights only in the format of Meta's or Mistral's own code (original/consolidated.00.pth): {OWN}",
        ),
        (
            consolidated,
            "ModelUnsupported",
            f"MODEL has its weights only in the format of Meta's or Mistral's own code (consolidated.safetensors): {OWN}",
        ),
        (
            instead("sub/model.safetensors"),
            "ModelInvalid",
            "MODEL has its .safetensors files in a folder below config.json (sub/model.safetensors): move them next to it",
        ),
        (
            instead("adapter_model.safetensors"),
            "ModelUnsupported",
            f"MODEL is an adapter (it holds adapter_model.safetensors), {ADAPTER}",
        ),
        (
            diffusion,
            "ModelUnsupported",
            "MODEL is a diffusion pipeline (it holds model_index.json), not a language model",
        ),
        (
            below("snapshots/abc"),
            "ModelNotFound",
            "MODEL has no config.json, but the folders below it do (snapshots/abc): set spec.model.source to one of them, such as "
            "MODEL/snapshots/abc",
        ),
        (
            lambda folder: in_parts(folder, named="{}-of-00030"),
            "ModelNotFound",
            "MODEL lacks 2 of 2 weight files, such as model-00001-of-00030.safetensors, and holds "
            "model-00001-of-00002.safetensors, model-00002-of-00002.safetensors, which model.safetensors.index.json does not name: "
            "copy all files of the model, of one revision",
        ),
        (
            lambda folder: in_parts(folder, again="model.norm.weight"),
            "ModelInvalid",
            "model.norm.weight of MODEL is in model-00001-of-00002.safetensors and in model-00002-of-00002.safetensors, and "
            "nothing says which one counts: copy all files of the model again, of one revision",
        ),
    ],
)  # fmt: skip
def test_a_folder_that_is_something_else_is_named(
    refused: Callable[..., tuple[str, str]], files: Callable[[Path], None], reason: str, message: str
) -> None:
    """With what turns it into a model."""
    assert refused(files=files) == (reason, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {f"lm_head.0.{name.rpartition('.')[2]}" if "lm_head" in name else name: v for name, v in t.items()},
            "MODEL lacks 1 of the tensors that its config.json asks for: lm_head.weight. They would be filled with random numbers. In "
            f"their place it holds lm_head.0.weight: {CONFIG}, or {CLASS}",
        ),
        (
            lambda t: without(t, f"{L}.q_proj.weight") | {"model.layers.0.attention.wq.weight": zeros(8, 8)},
            f"MODEL lacks 1 of the tensors that its config.json asks for: {L}.q_proj.weight. They would be filled with random "
            f"numbers. In their place it holds model.layers.0.attention.wq.weight: {CONFIG}, or {CLASS}",
        ),
        (
            lambda t: t | {f"{L}.q_proj.bias": zeros(8)},
            f"MODEL holds 1 tensor that a model of type llama does not have with this config.json: {L}.q_proj.bias. They would be "
            f"dropped; {CONFIG}, or remove these tensors",
        ),
        (
            lambda t: {name: np.zeros((0,), dtype=np.float32) if "norm" in name else tensor for name, tensor in t.items()},
            "3 of 12 tensors of MODEL are empty (model.layers.0.input_layernorm.weight, "
            "model.layers.0.post_attention_layernorm.weight, model.norm.weight), as a process writes them that holds only a part of "
            "the model (ZeRO stage 3, FSDP): save the model again with stage3_gather_16bit_weights_on_model_save: true in the "
            "configuration of DeepSpeed, or with a full state dict of FSDP",
        ),
        (lambda t: {}, "the weight files of MODEL hold no tensors: save the model again"),
        (
            lambda t: {"visual.blocks.0.weight": zeros(8, 8)},
            "MODEL holds no weights of a text model, only visual.blocks.0.weight",
        ),
    ],
)  # fmt: skip
def test_weights_that_another_program_wrote_are_refused(
    refused: Callable[..., tuple[str, str]], change: Callable[[Tensors], Tensors], message: str
) -> None:
    """The message names what is there in place of what is asked for."""
    assert refused(change) == ("ModelInvalid", message)


def test_empty_weights_beside_the_script_that_gathers_them_are_refused_with_it(
    refused: Callable[..., tuple[str, str]],
) -> None:
    """DeepSpeed leaves zero_to_fp32.py in each of its checkpoints."""

    def leave_script(folder: Path) -> None:
        (folder / "zero_to_fp32.py").write_text("")

    empty = {"model.norm.weight": np.zeros((0,), dtype=np.float32)}
    assert refused(lambda tensors: empty, files=leave_script) == (
        "ModelInvalid",
        "1 of 1 tensors of MODEL are empty (model.norm.weight), as a process writes them that holds only a part of the model (ZeRO "
        "stage 3, FSDP): run `python zero_to_fp32.py . whole --safe_serialization` in its folder, and use the model in whole/ in "
        "place of these weights",
    )


def test_an_index_without_metadata_is_refused(refused: Callable[..., tuple[str, str]]) -> None:
    """transformers looks it up and would end with a KeyError, on a GPU."""

    def write(folder: Path) -> None:
        in_parts(folder)
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": json.loads(index.read_text())["weight_map"]}))

    assert refused(files=write) == (
        "ModelInvalid",
        'model.safetensors.index.json of MODEL has no "metadata", which transformers requires: add "metadata": {} to it, or copy it '
        "again",
    )


def test_biases_that_the_config_asks_for_must_be_there(refused: Callable[..., tuple[str, str]]) -> None:
    """transformers would start them from its own numbers."""
    assert refused(attention_bias=True) == (
        "ModelInvalid",
        f"MODEL lacks 1 of the tensors that its config.json asks for: {L}.q_proj.bias. They would be filled with random numbers; "
        "copy the model's files again, or save it again with all its weights",
    )


def test_a_quantised_file_that_hides_the_parts_beside_it_is_refused(refused: Callable[..., tuple[str, str]]) -> None:
    """transformers reads model.safetensors first; the parts are perhaps what was meant."""

    def write(folder: Path) -> None:
        in_parts(folder, keep=True)
        save_file(llama_tensors() | {f"{L}.q_proj.scales": zeros(8, 1)}, folder / "model.safetensors")

    assert refused(files=write) == (
        "ModelUnsupported",
        f"1 of 13 tensors of MODEL belong to quantised weights, such as GPTQ, AWQ, MLX, bitsandbytes or FP8 ({L}.q_proj.scales): use the "
        "unquantised model; method qlora quantises it while loading; note that MODEL also holds "
        "model-00001-of-00002.safetensors, model-00002-of-00002.safetensors: the weights are read from model.safetensors only",
    )


def test_a_tied_head_that_differs_from_the_embeddings_is_refused(refused: Callable[..., tuple[str, str]]) -> None:
    """transformers would train it, memory would be planned without it, and a server would drop it."""
    assert refused(lambda t: t | {"lm_head.weight": zeros(400, 8) + 1}, tie_word_embeddings=True) == (
        "ModelInvalid",
        "config.json of MODEL ties the head to the embeddings (tie_word_embeddings), but lm_head.weight differs from "
        "model.embed_tokens.weight: set tie_word_embeddings to false if the head was trained, or save the model again without it",
    )


def test_a_tied_head_that_is_saved_as_well_is_accepted(job: Any, tmp_path: Path) -> None:
    """Many published models hold the same table twice."""
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))

    assert examine(job, tmp_path / "workspace").reason == "Prepared"


def test_an_embedding_model_without_a_head_is_refused(refused: Callable[..., tuple[str, str]]) -> None:
    """Qwen3-Embedding-8B names a class with a head and has none."""
    assert refused(lambda t: without(t, "lm_head.weight")) == (
        "ModelInvalid",
        "MODEL has no lm_head.weight, and its config.json does not tie the head to the embeddings (tie_word_embeddings): the head would "
        "start from random numbers. If this is an embedding model, use the language model that it was made from; else copy the "
        "model's files again, or set tie_word_embeddings to true if the model was trained that way",
    )


def test_an_embedding_model_with_a_tied_head_is_warned_of(job: Any, tmp_path: Path) -> None:
    """Qwen3-Embedding-0.6B loads as a language model."""
    folder = tmp_path / "model"
    (folder / "config_sentence_transformers.json").write_text("{}")

    report = examine(job, tmp_path / "workspace").preflight

    assert report is not None
    assert report.warnings[0] == (
        f"file://{folder} holds config_sentence_transformers.json, so it is an embedding model: it may no longer write text. Use the "
        "language model that it was made from"
    )
