"""The header of a safetensors file: names, types and shapes of its tensors. Called by preflight and model.load."""

import json
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod

from finetune_trainer.errors import UserError
from finetune_trainer.storage.store import Store, StoredFile

FIRST_READ_BYTES = 16 << 10
"""Holds the header of most files; a longer one is read again, whole."""

LARGEST_HEADER_BYTES = 100_000_000
"""The limit of the format itself."""

READ_AT_ONCE = 8

COMPARED_BYTES = 1 << 20
"""Training changes all values of a tensor, so any part will do."""

LENGTH_BYTES = 8
"""The header's own length, little endian, in front of it."""

LFS_POINTER = b"version https://git-lfs"

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits of an element, by the name that the format gives its type."""

PUBLISHED = {"BF16": "bfloat16", "F16": "float16"}
"""The types that a model is published in; anything else is published in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """What a header says of one tensor."""

    dtype: str
    """As the format spells it: BF16, F32 ..."""
    shape: tuple[int, ...]
    file: str
    begin: int
    """Where its values begin in the file."""


def read_headers(store: Store, files: Iterable[StoredFile]) -> dict[str, Tensor]:
    """Return the tensors of weight files by name. Raises UserError(ModelInvalid) for a file that is cut or is none."""
    with ThreadPoolExecutor(READ_AT_ONCE) as pool:
        found = list(pool.map(lambda file: _tensors(store, file), files))
    tensors: dict[str, Tensor] = {}
    for name, tensor in (item for each in found for item in each.items()):
        if (first := tensors.setdefault(name, tensor)) is not tensor:
            raise UserError(
                "ModelInvalid",
                f"{name} of {store.uri} is in {first.file} and in {tensor.file}, and nothing says which one counts: copy all files "
                f"of the {store.role} again, of one revision",
            )
    return tensors


def published_dtype(written: Iterable[str]) -> str:
    """Return what a model is published in that is made of tensors of these types: the type of most."""
    return Counter(PUBLISHED.get(dtype, "float32") for dtype in written).most_common(1)[0][0]


def alike(store: Store, one: Tensor, other: Tensor) -> bool:
    """Say whether two tensors hold the same values, by a part from their middle; those of other types are not compared."""
    if one.dtype != other.dtype:
        return True
    return one.shape == other.shape and _middle(store, one) == _middle(store, other)


def _middle(store: Store, tensor: Tensor) -> bytes:
    size = _bits(tensor) // 8
    with store.open(tensor.file) as opened:
        opened.seek(tensor.begin + size // 2)
        return opened.read(min(COMPARED_BYTES, size - size // 2))


def is_pointer(content: bytes) -> bool:
    """Say whether a file is only git-lfs' note of where its content is."""
    return content.startswith(LFS_POINTER)


def pointer_refused(uri: str, path: str) -> UserError:
    """Return the error for a file that git-lfs has not fetched."""
    return UserError(
        "ModelInvalid",
        f"{path} of {uri} is a git-lfs pointer, not the file itself: run `git lfs pull` in the repository and copy it again",
    )


def _tensors(store: Store, file: StoredFile) -> dict[str, Tensor]:
    if not file.size_bytes:
        raise _broken(store, file, "is empty")
    start = store.read_bytes(file.path, FIRST_READ_BYTES) or b""
    if is_pointer(start):
        raise pointer_refused(store.uri, file.path)
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if length > LARGEST_HEADER_BYTES or len(start) <= LENGTH_BYTES:
        raise _broken(store, file, "is not a safetensors file: it does not begin with the length of a header")
    whole = LENGTH_BYTES + length
    if whole > file.size_bytes:
        raise _broken(store, file, f"is truncated: its header is {whole:,} bytes long, the file {file.size_bytes:,}")
    header = start if len(start) >= whole else store.read_bytes(file.path, whole) or b""
    return _described(store, file, header[LENGTH_BYTES:whole], whole)


def _described(store: Store, file: StoredFile, header: bytes, begin: int) -> dict[str, Tensor]:
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        found = {
            name: Tensor(
                dtype=entry["dtype"],
                shape=tuple(map(int, entry["shape"])),
                file=file.path,
                begin=begin + int(entry["data_offsets"][0]),
            )
            for name, entry in entries.items()
        }
        spans = {
            name: (int(entry["data_offsets"][0]), int(entry["data_offsets"][1])) for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _broken(store, file, "is not a safetensors file: its header cannot be read") from error
    described = begin + max((end for _, end in spans.values()), default=0)
    if described != file.size_bytes:
        state = "is truncated" if described > file.size_bytes else "is damaged"
        raise _broken(
            store, file, f"{state}: its header describes {described:,} bytes, but the file has {file.size_bytes:,}"
        )
    for name, (first, last) in spans.items():
        if (last - first) * 8 != _bits(found[name]):
            raise _broken(store, file, f"is damaged: the size of {name} does not match its shape and type")
    return found


def _bits(tensor: Tensor) -> int:
    return prod(tensor.shape) * BITS.get(tensor.dtype, 0)


def _broken(store: Store, file: StoredFile, what: str) -> UserError:
    return UserError(
        "ModelInvalid",
        f"{file.path} of {store.uri} {what}. Copy it again from the source of the {store.role} and compare the sizes",
    )
