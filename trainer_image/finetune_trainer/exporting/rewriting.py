"""A file of weights written anew, tensor by tensor, in the order and form of safetensors itself. Called by trained.

safetensors' own writer wants all tensors of a file in memory: up to 50 GB.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from finetune_trainer.training.handed_over import Weights

BITS = {"I64": 64, "F64": 64, "F32": 32, "I32": 32, "BF16": 16, "F16": 16, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
"""By the names of dtypes in safetensors, in the order in which it writes them."""

FLOATS = {"float64": "F64", "float32": "F32", "bfloat16": "BF16", "float16": "F16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor, and how it is published."""

    name: str
    shape: tuple[int, ...]
    stored: str
    """Its dtype in the checkpoint, as safetensors names it."""
    dtype: str

    @property
    def size(self) -> int:
        """Bytes, as it is published."""
        return prod(self.shape) * BITS[self.dtype] // 8


def planned(file: Path, weights: Weights) -> list[Tensor]:
    """Return the tensors of a file that are published, in the order in which safetensors writes them. Only the header is read."""
    found = []
    with safe_open(file, framework="pt") as source:
        for name in source.keys():  # noqa: SIM118 - no mapping
            part = source.get_slice(name)
            stored = part.get_dtype()
            cast = stored in FLOATS.values() and not any(each in name for each in weights.kept)
            dtype = FLOATS[weights.dtype] if cast else stored
            found.append(Tensor(name=name, shape=tuple(part.get_shape()), stored=stored, dtype=dtype))
    kept = (tensor for tensor in found if tensor.name not in weights.dropped)
    order = list(BITS)
    return sorted(kept, key=lambda tensor: (order.index(tensor.dtype), tensor.name))


def dropped_from(file: Path, weights: Weights) -> bool:
    """Tell whether a file holds a tensor that is not published."""
    with safe_open(file, framework="pt") as source:
        return not set(weights.dropped).isdisjoint(source.keys())


def write(source: Path, target: Path, tensors: list[Tensor]) -> None:
    """Write the tensors of one file into another; one at a time is in memory."""
    by_name = {safe: getattr(torch, name) for name, safe in FLOATS.items()}
    with safe_open(source, framework="pt") as read, target.open("wb") as written:
        header: dict[str, Any] = {"__metadata__": read.metadata()} if read.metadata() else {}
        at = 0
        for tensor in tensors:
            header[tensor.name] = {
                "dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, at + tensor.size],
            }  # fmt: skip
            at += tensor.size
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        written.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            value = read.get_tensor(tensor.name)
            value = value.to(by_name[tensor.dtype]) if tensor.dtype != tensor.stored else value
            written.write(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
