"""What a GPU has and a CPU build of torch does not, emulated by its allocations. Used by simulate_step.

Everything else that runs in a simulation is the libraries' own code. EMULATED is printed with each result.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import transformers.masking_utils
import transformers.training_args
import trl.kernels.chunked_logprob
import trl.trainer.utils
from bitsandbytes.optim import GlobalOptimManager
from bitsandbytes.optim.optimizer import Optimizer2State, Optimizer8bit
from torch._subclasses.fake_tensor import FakeTensor

from finetune_trainer.model import varlen

EMULATED = (
    "scaled dot product attention: CUDA's FlashAttention without a mask, its memory-efficient kernel with one",
    "variable-length attention: CUDA's FlashAttention over the rows of a micro batch",
    "dropout: its mask is one byte per element, as on CUDA",
    "TRL's Triton tiles of the loss: they work in place",
    "products that accumulate in float32 (addmm with out_dtype): in place",
    "bitsandbytes' 4-bit product: unpacks one matrix inside; its optimizers' update kernels: in place",
    "paged optimizer states: not on the GPU at the peak",
    "masks and routing by value: every label counts, rows of a batch differ in length, experts share the tokens evenly",
    "values read back from tensors: constants",
)
"""What is not the real thing."""

PAGED_ELEMENTS = 100_000
"""bitsandbytes pages states of at least so many elements."""


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def emulated(*, unequal_rows: bool) -> Iterator[None]:
    """Put the emulations in place. `unequal_rows`: rows of a batch differ in length, so there is a padding mask."""
    with ExitStack() as stack:
        for owner, name, value in (*_kernels(), *_values(unequal_rows=unequal_rows)):
            stack.enter_context(patched(owner, name, value))
        yield


def _kernels() -> Iterator[tuple[Any, str, Any]]:
    tiles = trl.kernels.chunked_logprob
    yield torch.nn.functional, "scaled_dot_product_attention", attention
    yield varlen, "one_by_one", varlen_attention
    yield torch.nn.functional, "dropout", dropout
    yield tiles, "_forward_tile", _nothing
    yield tiles, "_backward_tile", _nothing
    yield tiles, "_addmm_fp32", _nothing
    yield trl.trainer.utils, "_use_triton", lambda device: True  # noqa: ARG005 - selects the labelled tokens, as on CUDA
    yield Optimizer2State, "update_step", _nothing
    yield GlobalOptimManager, "_instance", None  # what former runs asked for, by position
    yield Optimizer8bit, "get_state_buffer", _state_buffer
    yield torch, "is_autocast_enabled", _is_autocast_enabled
    yield transformers.training_args, "is_torch_bf16_gpu_available", lambda: True
    yield torch.nn.Module, "to", _module_to
    yield torch.nn.Module, "bfloat16", lambda module: _cast(module, torch.bfloat16)


def _values(*, unequal_rows: bool) -> Iterator[tuple[Any, str, Any]]:
    masks = transformers.masking_utils
    yield masks, "is_tracing", lambda tensor=None: False  # noqa: ARG005 - run the code of a real run, not of a trace
    yield masks, "fast_all", lambda tensor: not unequal_rows  # noqa: ARG005
    yield torch.Tensor, "item", _for_fakes("item", lambda tensor: 0.5 if tensor.is_floating_point() else 0)
    yield torch.Tensor, "__float__", _for_fakes("__float__", lambda tensor: 0.5)  # noqa: ARG005
    yield torch.Tensor, "__bool__", _for_fakes("__bool__", lambda tensor: False)  # noqa: ARG005
    yield torch.Tensor, "__int__", _for_fakes("__int__", lambda tensor: 1)  # noqa: ARG005
    yield torch.Tensor, "__index__", _for_fakes("__index__", lambda tensor: 1)  # noqa: ARG005
    yield torch.Tensor, "tolist", _for_fakes("tolist", _zeros)


def _for_fakes(name: str, constant: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    real = getattr(torch.Tensor, name)
    return lambda tensor: constant(tensor) if isinstance(tensor, FakeTensor) else real(tensor)


def _zeros(tensor: torch.Tensor) -> Any:
    value = 0.5 if tensor.is_floating_point() else 0
    return [value] * tensor.shape[0] if tensor.dim() == 1 else value


def _nothing(*_: Any, **__: Any) -> None:
    return None


_real_is_autocast_enabled = torch.is_autocast_enabled


def _is_autocast_enabled(device: str = "cpu") -> bool:
    """Libraries ask without an argument, which means CUDA; here the fake device is the CPU."""
    return _real_is_autocast_enabled(device)


def _module_to(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
    """Module.to cannot swap fake parameters: only their dtype is changed."""
    dtype = kwargs.get("dtype") or next((item for item in args if isinstance(item, torch.dtype)), None)
    return _cast(module, dtype) if dtype is not None else module


def _cast(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    for parameter in module.parameters():
        if parameter.is_floating_point() and parameter.dtype is not dtype:
            parameter.data = parameter.data.to(dtype)
    for part in module.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_floating_point() and buffer.dtype is not dtype:
                part._buffers[name] = buffer.to(dtype)
    return module


def _state_buffer(
    optimizer: Optimizer8bit, parameter: torch.Tensor, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    paged = optimizer.is_paged and parameter.numel() >= PAGED_ELEMENTS
    return torch.zeros(() if paged else parameter.shape, dtype=dtype)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001 - torch's signature
    is_causal: bool = False,  # noqa: ARG001
    scale: float | None = None,  # noqa: ARG001
    enable_gqa: bool = False,  # noqa: ARG001
) -> torch.Tensor:
    """torch.nn.functional.scaled_dot_product_attention, by what its CUDA kernels allocate."""
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if attn_mask is None:
        return FlashAttention.apply(query, key, value)
    bias = attn_mask
    if attn_mask.dtype is torch.bool:
        bias = torch.empty(attn_mask.shape, dtype=query.dtype)  # each layer turns the mask into a bias of its own
    return EfficientAttention.apply(query, key, value, bias)


def _forward(query: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(query), torch.empty(query.shape[:3], dtype=torch.float32)


class FlashAttention(torch.autograd.Function):
    """Saves queries, keys, values, output and row sums; grouped keys are expanded only in backward."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Allocate output and row sums."""
        out, sums = _forward(query)
        ctx.save_for_backward(query, key, value, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor, ...]:
        """Allocate the float32 accumulator of the queries' gradient, and gradients per query head."""
        query, key, value, _out, sums = ctx.saved_tensors
        accumulator = torch.empty(query.shape, dtype=torch.float32)
        row_sums = torch.empty_like(sums)
        grads = torch.empty_like(query), torch.empty_like(query), torch.empty_like(query)
        del accumulator, row_sums
        if key.shape[1] == query.shape[1]:
            return grads
        return grads[0], torch.empty_like(key), torch.empty_like(value)


BLOCK = 128
"""Tokens by which FlashAttention's backward pass rounds up each document (flash_api.cpp, mha_varlen_bwd)."""


def varlen_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, of: varlen.Documents) -> torch.Tensor:
    """torch.nn.attention.varlen.varlen_attn, by what its CUDA kernels allocate. Shapes: (tokens, heads, width)."""
    return VarlenAttention.apply(query, key, value, of.ends)


class VarlenAttention(torch.autograd.Function):
    """Saves queries, keys, values, output and row sums, as FlashAttention does; grouped keys are expanded only in backward."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor
    ) -> torch.Tensor:
        """Allocate output and row sums."""
        out, sums = torch.empty_like(query), torch.empty(query.shape[1], query.shape[0], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, ends, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor | None, ...]:
        """Allocate the float32 accumulator of the queries' gradient, and gradients per query head."""
        query, key, value, ends, _out, _sums = ctx.saved_tensors
        tokens, heads, width = query.shape
        rounded = tokens + BLOCK * (ends.shape[0] - 1)
        accumulator = torch.empty(rounded, heads, width, dtype=torch.float32)
        row_sums = torch.empty(heads, rounded, dtype=torch.float32)
        grads = torch.empty_like(query), torch.empty_like(query), torch.empty_like(query)
        del accumulator, row_sums
        if key.shape[1] == heads:
            return *grads, None
        return grads[0], torch.empty_like(key), torch.empty_like(value), None


class EfficientAttention(torch.autograd.Function):
    """The memory-efficient kernel with a bias: saves that too."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """Allocate output and row sums."""
        out, sums = _forward(query)
        ctx.save_for_backward(query, key, value, out, sums, bias)
        return out

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor | None, ...]:
        """Allocate row sums, the float32 accumulator of the queries' gradient, and the gradients."""
        query, key, value, _out, sums, _bias = ctx.saved_tensors
        delta, accumulator = torch.empty_like(sums), torch.empty(query.shape, dtype=torch.float32)
        grads = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        del delta, accumulator
        return *grads, None


def dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:  # noqa: A002, ARG001 - torch's signature
    """torch.nn.functional.dropout, by what its CUDA kernel allocates."""
    return Dropout.apply(input) if training and p > 0 else input


class Dropout(torch.autograd.Function):
    """Saves a mask of one byte per element."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        """Allocate output and mask."""
        ctx.save_for_backward(torch.empty_like(value, dtype=torch.bool))
        return torch.empty_like(value)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:  # noqa: ARG004 - torch's protocol
        """Allocate the gradient."""
        return torch.empty_like(grads[0])
