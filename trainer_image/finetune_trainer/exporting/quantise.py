"""A GGUF of 16 bit as Q4_K_M: each matrix by llama.cpp's own kernel, the types by llama.cpp's own rules. Called by gguf.

No wheel brings llama.cpp's quantizer program. xllamacpp's library exports ggml_quantize_chunk, which does the arithmetic; which
matrix gets which type is src/llama-quant.cpp (llama_tensor_get_type_impl, LLAMA_FTYPE_MOSTLY_Q4_K_M), b11549.
"""

import ctypes
import importlib.util
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

from finetune_trainer.errors import UserError

WIDER = {Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}
"""For rows whose length is not a multiple of 256."""

KEPT = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
)
"""Parts of names that are never quantised, of the families that train here."""

LAYER = re.compile(r"^blk\.(\d+)\.")
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What the rules ask about a model."""

    tied: bool
    experts: int
    layers: int
    counts: Counter[str]
    """Tensors by what follows their layer."""


def quantise_q4_k_m(source: Path, target: Path) -> Path:
    """Write the Q4_K_M of a GGUF. Raises UserError(ExportFailed) where the image has no quantizer."""
    quantizer, reader = _quantizer(), GGUFReader(source)
    architecture = str(_value(reader, "general.architecture"))
    writer = GGUFWriter(target, arch=architecture, use_temp_file=False)
    _copy_fields(reader, writer)
    writer.add_file_type(LlamaFileType.MOSTLY_Q4_K_M)
    model = _model(reader, architecture)
    types = {tensor.name: type_of(tensor.name, tuple(map(int, tensor.shape)), model) for tensor in reader.tensors}
    for tensor in reader.tensors:
        kind = types[tensor.name] or tensor.tensor_type
        shape = list(reversed([int(size) for size in tensor.shape]))
        writer.add_tensor_info(tensor.name, _bytes_shape(shape, kind), *_storage(shape, kind, tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:  # one at a time: a matrix in float32 is the most that is in memory
        kind = types[tensor.name]
        writer.write_tensor_data(tensor.data if kind is None else quantizer.quantised(tensor, kind))
    writer.close()
    return target


def type_of(name: str, shape: tuple[int, ...], model: Model) -> Type | None:
    """Return the type of a tensor by llama.cpp's rules; None: as it is. `shape` is ggml's, the row length first."""
    if len(shape) < 2 or not name.endswith("weight") or any(part in name for part in KEPT):
        return None
    wanted = _wanted(name, model)
    block = GGML_QUANT_SIZES[wanted][0]
    if shape[0] % block == 0:
        return wanted
    wanted = WIDER.get(wanted, wanted)
    return wanted if shape[0] % GGML_QUANT_SIZES[wanted][0] == 0 else None


def _wanted(name: str, model: Model) -> Type:
    if name == "output.weight" or (model.tied and name == "token_embd.weight"):
        return Type.Q6_K
    found = LAYER.match(name)
    if found is None:
        return Type.Q4_K
    layer, part = int(found[1]), name[found.end() :]
    if part == "attn_v.weight":
        return Type.Q8_0 if model.experts == 8 else _more(layer, model.counts[part])
    if part == "attn_k.weight" and model.experts == 8:
        return Type.Q8_0
    if part == "attn_output.weight" and model.experts == 8:
        return Type.Q5_K
    if part == "attn_qkv.weight":
        return Type.Q5_K
    return _more(layer, model.layers) if part.startswith("ffn_down") else Type.Q4_K


def _more(layer: int, layers: int) -> Type:
    """Give the first and last eighth of the layers, and every third between them, more bits."""
    eighth = layers // 8
    return Type.Q6_K if layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2 else Type.Q4_K


def _model(reader: GGUFReader, architecture: str) -> Model:
    names = [tensor.name for tensor in reader.tensors]
    parts = Counter(LAYER.sub("", name) for name in names if LAYER.match(name))
    return Model(
        tied="output.weight" not in names,
        experts=int(_value(reader, f"{architecture}.expert_count") or 0),
        layers=int(_value(reader, f"{architecture}.block_count") or 0),
        counts=parts,
    )


def _value(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return field.contents() if field is not None else None


def _copy_fields(reader: GGUFReader, writer: GGUFWriter) -> None:
    own = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")
    for name, field in reader.fields.items():
        if not name.startswith(own):
            kind = field.types[0]
            inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, inner)
    writer.add_quantization_version(2)


def _bytes_shape(shape: list[int], kind: Type) -> list[int]:
    """The writer wants the shape in bytes for packed types."""
    block, size = GGML_QUANT_SIZES[kind]
    return shape if block == 1 else [*shape[:-1], shape[-1] // block * size]


def _storage(shape: list[int], kind: Type, tensor: Any) -> tuple[Any, int, Type]:
    block, size = GGML_QUANT_SIZES[kind]
    count = int(np.prod(shape))
    dtype = np.dtype(np.uint8) if block > 1 else tensor.data.dtype
    return dtype, count // block * size, kind


class Quantizer:
    """ggml_quantize_chunk of a shared library."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.chunk = library.ggml_quantize_chunk
        self.chunk.restype = ctypes.c_size_t
        self.chunk.argtypes = [
            ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
        ]  # fmt: skip

    def quantised(self, tensor: Any, kind: Type) -> np.ndarray[Any, Any]:
        """Return a tensor's bytes in another type."""
        length = int(tensor.shape[0])
        rows = tensor.data.reshape(-1, tensor.data.shape[-1])
        block, size = GGML_QUANT_SIZES[kind]
        packed = np.empty((len(rows), length // block * size), dtype=np.uint8)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = np.ascontiguousarray(
                dequantize(rows[start : start + ROWS_AT_ONCE], tensor.tensor_type), dtype=np.float32
            )
            into = packed[start : start + len(some)]
            self.chunk(int(kind), some.ctypes.data, into.ctypes.data, 0, len(some), length, None)
        shape = [*reversed([int(each) for each in tensor.shape[1:]]), packed.shape[-1]]
        return packed.reshape(shape)


def _quantizer() -> Quantizer:
    spec = importlib.util.find_spec("xllamacpp")
    found = list(Path(spec.origin).parent.glob("xllamacpp*.so")) if spec is not None and spec.origin else []
    if not found:
        raise UserError("ExportFailed", "this image has no quantizer for q4_k_m: use the trainer image of this release")
    return Quantizer(ctypes.CDLL(str(found[0])))
