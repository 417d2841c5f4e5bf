"""Follow the life of every storage while fake tensors run, and keep the peak by category. Used by simulate_step.

Fake tensors have shapes, dtypes and storages but no memory. Each storage is rounded up to 512 bytes, as CUDA's caching
allocator does; what is counted is what `torch.cuda.max_memory_allocated` would say.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import bitsandbytes  # noqa: F401 - registers its operations
import torch
from torch.utils._python_dispatch import TorchDispatchMode

Category = Literal["weights", "adapter", "gradients", "optimizer", "activations", "logits", "temporaries"]

CATEGORIES: tuple[Category, ...] = get_args(Category)

BLOCK_BYTES = 512
"""The allocator's granularity (torch/csrc, CUDACachingAllocator: kMinBlockSize)."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The fullest moment, in bytes."""

    total: int
    parts: dict[Category, int]
    operation: str
    """The operation that allocated last."""


@dataclass(slots=True)
class Storage:
    """One live allocation."""

    size: int
    category: Category


@dataclass
class Ledger(TorchDispatchMode):
    """Current and peak bytes of all storages that are made or named while it is entered."""

    live: dict[int, Storage] = field(default_factory=dict)
    parts: dict[Category, int] = field(default_factory=lambda: dict.fromkeys(CATEGORIES, 0))
    category: Category = "weights"
    """What new storages are, until told otherwise."""

    def __post_init__(self) -> None:
        super().__init__()
        self.total = 0
        self.counting = True
        self.start_over()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = selected(func, args)
        if out is NotImplemented:
            out = func(*args, **(kwargs or {}))
        for leaf in (out,) if isinstance(out, torch.Tensor) else out if isinstance(out, tuple | list) else ():
            if isinstance(leaf, torch.Tensor):
                self.add(leaf, self.category, func)
        if func in PASSING:
            self.passing(PASSING[func](args), func)
        return out

    def add(self, tensor: torch.Tensor, category: Category, operation: Any = "") -> None:
        """Count a tensor's storage, once."""
        if not self.counting or tensor.device.type == "meta":
            return  # shapes that DeepSpeed keeps
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.live:
            return
        size = -(-storage.nbytes() // BLOCK_BYTES) * BLOCK_BYTES
        self.live[key] = Storage(size, category)
        weakref.finalize(storage, self._free, key)
        self._grow(size, category, operation)

    def name(self, tensor: torch.Tensor | None, category: Category) -> None:
        """Say what a tensor is."""
        if tensor is None:
            return
        known = self.live.get(tensor.untyped_storage()._cdata)
        if known is None:
            self.add(tensor, category)
            return
        self.parts[known.category] -= known.size
        self.parts[category] += known.size
        known.category = category

    def passing(self, size: int, operation: Any) -> None:
        """Count what an operation allocates inside and frees before it returns."""
        self._grow(size, "temporaries", operation)
        self.parts["temporaries"] -= size
        self.total -= size

    def start_over(self) -> None:
        """Forget the peak so far."""
        self._peak_total, self._peak_parts, self._peak_operation = self.total, dict(self.parts), ""

    @property
    def peak(self) -> Peak:
        """The fullest moment since the last start."""
        return Peak(self._peak_total, dict(self._peak_parts), str(self._peak_operation))

    @contextmanager
    def within(self, category: Category) -> Iterator[None]:
        """Count new storages as this for a while."""
        before, self.category = self.category, category
        try:
            yield
        finally:
            self.category = before

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Do not count new storages for a while: they are in the memory of the host."""
        before, self.counting = self.counting, False
        try:
            yield
        finally:
            self.counting = before

    def _grow(self, size: int, category: Category, operation: Any) -> None:
        self.parts[category] += size
        self.total += size
        if self.total > self._peak_total:
            self._peak_total, self._peak_parts, self._peak_operation = self.total, self.parts.copy(), operation

    def _free(self, key: int) -> None:
        gone = self.live.pop(key, None)
        if gone is not None:
            self.parts[gone.category] -= gone.size
            self.total -= gone.size


def selected(func: Any, args: Any) -> Any:
    """Answer a selection by a mask as if the mask were all true: its values do not exist. NotImplemented for the rest."""
    if func is torch.ops.aten.nonzero.default:
        return args[0].new_empty((args[0].numel(), args[0].dim()), dtype=torch.int64)
    if func not in SELECTIONS or not _by_mask(args[1]):
        return NotImplemented
    source, mask = args[0], args[1][0]
    if func is torch.ops.aten.index.Tensor:
        return source.new_empty((mask.numel(), *source.shape[mask.dim() :]))
    return source if func is not torch.ops.aten.index_put.default else torch.empty_like(source)


def _by_mask(indices: Any) -> bool:
    return len(indices) == 1 and indices[0] is not None and indices[0].dtype is torch.bool


SELECTIONS = (
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
    torch.ops.aten._unsafe_index_put.default,
)

PASSING: dict[Any, Callable[[Any], int]] = {
    torch.ops.bitsandbytes.gemm_4bit.default: lambda args: 2 * args[2][0] * args[2][1],
}
"""Bytes that an operation takes inside and gives back: bitsandbytes' product unpacks its matrix on CUDA."""
