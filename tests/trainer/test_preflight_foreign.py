"""Folders that hold a model in another format: the message says what it is and what to use instead."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

ORIGINAL = "set spec.model.source to the original model, which has config.json and .safetensors files"
FOREIGN = [
    ("blobs/sha256-ab", f"MODEL is a model store of Ollama (blobs/sha256-ab): {ORIGINAL}"),
    (
        "onnx/model.onnx",
        f"MODEL is a model in the ONNX format, which is for inference only (onnx/model.onnx): {ORIGINAL}",
    ),
    (
        "openvino_model.bin",
        f"MODEL is a model in the OpenVINO format, which is for inference only (openvino_model.bin): {ORIGINAL}",
    ),
    ("tf_model.h5", f"MODEL is a model with TensorFlow or Flax weights only (tf_model.h5): {ORIGINAL}"),
    ("model.engine", f"MODEL is a model that was compiled for inference (model.engine): {ORIGINAL}"),
    ("weights.00.npz", f"MODEL is a model of MLX (weights.00.npz): {ORIGINAL}"),
    ("model.keras", f"MODEL is a Keras model (model.keras): {ORIGINAL}"),
    ("rank0.safetensors", f"MODEL is a checkpoint of TensorRT-LLM (rank0.safetensors): {ORIGINAL}"),
    (
        "mp_rank_00/model_optim_rng.pt",
        "MODEL is a Megatron checkpoint (mp_rank_00/model_optim_rng.pt): export it to the transformers format with Megatron Bridge",
    ),
    ("model.nemo", "MODEL is a NeMo checkpoint (model.nemo): export it to the transformers format with NeMo"),
    ("model.zip", "MODEL is a model in an archive (model.zip): unpack it and set spec.model.source to its folder"),
]


def holding(name: str, *, alone: bool) -> Callable[[Path], None]:
    """A folder with one file in place of the weights; alone without anything beside it."""

    def change(folder: Path) -> None:
        for file in folder.iterdir() if alone else [folder / "model.safetensors"]:
            file.unlink()
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")

    return change


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside a configuration"])
@pytest.mark.parametrize(("name", "message"), FOREIGN, ids=[name for name, _ in FOREIGN])
def test_a_model_in_another_format_is_named(
    refused: Callable[..., tuple[str, str]], name: str, message: str, alone: bool
) -> None:
    """With what can be trained in its place."""
    assert refused(files=holding(name, alone=alone)) == ("ModelUnsupported", message)


def test_a_folder_of_something_else_is_described(refused: Callable[..., tuple[str, str]]) -> None:
    """What is there, and what should be."""
    assert refused(files=holding("notes.txt", alone=True)) == (
        "ModelNotFound",
        "MODEL has no config.json, only notes.txt: it is not a model in the transformers format. Set spec.model.source to a folder with "
        "config.json, tokenizer.json and .safetensors files",
    )


def test_an_empty_folder_is_said_to_be_empty(refused: Callable[..., tuple[str, str]]) -> None:
    """It exists, so its name is probably right."""

    def emptied(folder: Path) -> None:
        for file in folder.iterdir():
            file.unlink()

    assert refused(files=emptied) == (
        "ModelNotFound",
        "MODEL is an empty folder: copy the files of the model there, or correct its source",
    )


def test_quantised_weights_under_another_name_are_not_told_to_be_renamed(
    refused: Callable[..., tuple[str, str]],
) -> None:
    """The next step would refuse them."""

    def quantised(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "output.safetensors")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "exl2"}}))

    assert refused(files=quantised) == (
        "ModelUnsupported",
        "the weights of MODEL (output.safetensors) are already quantised (exl2) and cannot be trained: use the unquantised model; "
        "method qlora quantises it while loading",
    )


def test_a_model_without_any_tokenizer_is_told_which_files_it_lacks(refused: Callable[..., tuple[str, str]]) -> None:
    """Not what the library tried."""

    def bare(folder: Path) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            (folder / name).unlink(missing_ok=True)

    assert refused(files=bare) == (
        "ModelInvalid",
        "MODEL has no tokenizer: copy tokenizer.json and tokenizer_config.json of the model that these weights come from next to "
        "config.json",
    )


def test_a_tokenizer_that_names_no_end_is_told_which_setting_it_lacks(refused: Callable[..., tuple[str, str]]) -> None:
    """eos_token, in its configuration."""

    def endless(folder: Path) -> None:
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config.pop("eos_token")
        (folder / "tokenizer_config.json").write_text(json.dumps(config))

    assert refused(files=endless) == (
        "ModelUnsupported",
        "the tokenizer names no token that ends a text: set eos_token in its tokenizer_config.json, to the token that the model was "
        "trained with",
    )


def test_a_link_without_its_file_is_the_users_to_mend(refused: Callable[..., tuple[str, str]]) -> None:
    """A snapshot of the hub's cache that was copied without its blobs; nothing would change by waiting."""

    def linked(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors").symlink_to("../blobs/ab12")

    assert refused(files=linked) == (
        "ModelNotFound",
        "model.safetensors of MODEL is a link to ../blobs/ab12, which does not exist there: copy the files themselves in place of the "
        "links, with cp -rL or rsync -L",
    )


def test_a_byte_order_mark_is_told(refused: Callable[..., tuple[str, str]]) -> None:
    """An editor on Windows writes it; transformers cannot read it."""

    def marked(folder: Path) -> None:
        (folder / "config.json").write_bytes(b"\xef\xbb\xbf" + (folder / "config.json").read_bytes())

    assert refused(files=marked) == (
        "ModelInvalid",
        "config.json of MODEL begins with a byte order mark: save it as UTF-8 without BOM",
    )
