"""Weights that overflowed in a merge: seen on a disk before a GPU is asked for, in a part of each tensor."""

import struct
from pathlib import Path

import numpy as np
import pytest
from finetune_contract import Location
from finetune_trainer.errors import UserError
from finetune_trainer.preflight.numbers import PART_BYTES, PARTS, check_numbers
from finetune_trainer.storage import Role, open_location
from finetune_trainer.storage.headers import Tensor
from safetensors.numpy import save_file

from tests.trainer.data_inputs import llama_tensors

Q, DOWN = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_weights_that_are_no_numbers_are_refused(refused, kind: type, value: float) -> None:
    """One value is enough: every loss would be none either."""

    def overflowed(folder: Path) -> None:
        tensors = {name: tensor.astype(kind) for name, tensor in llama_tensors().items()}
        tensors[Q][3, 5] = tensors[DOWN][7, 15] = value
        save_file(tensors, folder / "model.safetensors")

    assert refused(files=overflowed) == (
        "ModelInvalid",
        f"MODEL holds 2 tensors with values that are infinite or not a number: {DOWN}, {Q}; a merge or a conversion to float16 "
        "overflowed: make the model again in bfloat16",
    )


def large(folder: Path, *, dtype: str, width: int, bits: bytes, at: int) -> str:
    """What is said of a tensor of some MiB whose value at a byte is `bits`; empty where nothing is."""
    size = 8 * PARTS * PART_BYTES
    content = bytearray(size)
    content[at : at + width] = bits
    (folder / "model.safetensors").write_bytes(b"header" + content)
    tensor = Tensor(dtype=dtype, shape=(size // width,), file="model.safetensors", begin=len(b"header"))
    try:
        check_numbers(open_location(Location(uri=f"file://{folder}"), Role.MODEL), {"w": tensor})
    except UserError as error:
        return error.message.replace(str(folder), "")
    return ""


@pytest.mark.usefixtures("local_files")
def test_of_a_large_tensor_both_ends_and_parts_between_are_read(tmp_path: Path) -> None:
    """An overflow is seldom alone. bfloat16's largest number is one."""
    size = 8 * PARTS * PART_BYTES
    broken = (
        "file:// holds 1 tensor with values that are infinite or not a number: w; a merge or a conversion to float16 overflowed: make "
        "the model again in bfloat16"
    )
    infinite, largest = struct.pack("<H", 0x7F80), struct.pack("<H", 0x7F7F)

    assert [large(tmp_path, dtype="BF16", width=2, bits=infinite, at=at) for at in (0, size - 2)] == [broken, broken]
    assert large(tmp_path, dtype="BF16", width=2, bits=largest, at=0) == ""
    assert large(tmp_path, dtype="BF16", width=2, bits=infinite, at=2 * PART_BYTES) == ""
    assert large(tmp_path, dtype="F32", width=4, bits=struct.pack("<f", float("nan")), at=size - 4) == broken
    assert large(tmp_path, dtype="I32", width=4, bits=struct.pack("<i", -1), at=0) == ""
