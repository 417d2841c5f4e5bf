"""Attention over documents that lie end to end in one row: torch's variable-length kernel, registered with transformers. Used by load.

The usual path gives such a row a mask of its length squared, and computes the pairs that the mask hides. Here no pair of two documents
is computed, no mask exists, and grouped keys are not repeated. On a CPU, where the kernel does not run, documents are computed one by
one; tests hold that to be what the mask gives. Rows of a padded batch and generated tokens go the usual path.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from finetune_contract import Layout
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

VARLEN = "varlen"
"""The name of this attention in plans and in transformers."""


FIRST_WITH_KERNEL = (8, 0)
"""Compute capability, Ampere: torch builds FlashAttention for nothing older."""


def register() -> None:
    """Make transformers know this attention and that it has no mask."""
    ALL_ATTENTION_FUNCTIONS.register(VARLEN, varlen_attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(VARLEN, documents_mask)


def serves(layout: Layout, device: str) -> bool:
    """Tell whether the plan asks for this attention and the GPU, if there is one, has the kernel."""
    return layout.attention == VARLEN and (device != "cuda" or torch.cuda.get_device_capability() >= FIRST_WITH_KERNEL)


def documents_mask(
    batch_size: int, q_length: int, kv_length: int, *, attention_mask: torch.Tensor | None = None, **others: Any
) -> torch.Tensor | None:
    """Return no mask for one row of whole documents; else what sdpa has."""
    own_pattern = others.get("use_vmap", False)  # a model's own exceptions from the causal order
    if attention_mask is None and batch_size == 1 and q_length == kv_length and not own_pattern:
        return None
    mask: torch.Tensor | None = sdpa_mask(
        batch_size=batch_size, q_length=q_length, kv_length=kv_length, attention_mask=attention_mask, **others
    )
    return mask


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention inside each document. transformers' shapes: (1, heads, tokens, width) in, (1, tokens, heads, width) out."""
    if attention_mask is not None or query.shape[0] != 1 or query.shape[2] != key.shape[2]:
        settings.pop("sliding_window", None)  # the mask has it
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    if settings.get("dropout"):
        raise ValueError(
            "variable-length attention has no dropout of its scores: set attention_dropout to 0 in the model's config.json"
        )
    rows = [_half(part[0].transpose(0, 1)) for part in (query, key, value)]
    attend = on_gpu if query.is_cuda else one_by_one
    return attend(rows[0], rows[1], rows[2], documents(query, settings))[None], None


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """Where documents lie in a row, and how attention works inside each."""

    ends: torch.Tensor
    """Where each begins, and the end of the last."""
    longest: int
    scale: float | None
    window: int | None
    """Tokens that one sees, itself included; None: all before it."""


def documents(query: torch.Tensor, settings: Mapping[str, Any]) -> Documents:
    """Read what TRL's collator and the model's layer say."""
    ends, longest = settings.get("cu_seq_lens_q"), settings.get("max_length_q")
    if ends is None or longest is None:
        ends, longest = borders(query, settings.get("position_ids"))
    return Documents(
        ends=ends, longest=longest, scale=settings.get("scaling"), window=settings.get("sliding_window") or None
    )


def borders(query: torch.Tensor, position_ids: torch.Tensor | None) -> tuple[torch.Tensor, int]:
    """Return where documents begin, and the length of the longest, for callers that do not say: positions begin anew with each."""
    tokens = query.shape[2]
    starts = [0] if position_ids is None else (position_ids[0].diff() != 1).nonzero().flatten().add(1).tolist()
    ends = torch.tensor(sorted({0, *starts, tokens}), dtype=torch.int32)
    return ends.to(query.device), int(ends.diff().max())


def _half(part: torch.Tensor) -> torch.Tensor:
    """Cast as autocast does for sdpa: norms of queries and keys may have made them float32."""
    device = part.device.type
    return part.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else part


def on_gpu(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, of: Documents) -> torch.Tensor:
    """Compute all documents in one kernel. transformers' window counts the token itself, the kernel's only those before it."""
    before = -1 if of.window is None or of.window >= of.longest else of.window - 1
    ends, longest = of.ends, of.longest
    out = varlen_attn(
        query, key, value, ends, ends, longest, longest, scale=of.scale, window_size=(before, 0), enable_gqa=True
    )
    assert isinstance(out, torch.Tensor)
    return out


def one_by_one(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, of: Documents) -> torch.Tensor:
    """Compute each document on its own, for devices without the kernel."""
    parts = []
    for start, end in pairwise(of.ends.tolist()):
        q, k, v = (part[start:end].transpose(0, 1) for part in (query, key, value))
        mask = None if of.window is None or of.window >= end - start else near(end - start, of.window, query.device)
        parts.append(
            scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, scale=of.scale, enable_gqa=True
            )
        )
    return torch.cat(parts, dim=1).transpose(0, 1).contiguous()


def near(tokens: int, window: int, device: torch.device) -> torch.Tensor:
    """Return which pairs of tokens are in causal order and less than a window apart."""
    positions = torch.arange(tokens, device=device)
    apart = positions[:, None] - positions[None, :]
    return (apart >= 0) & (apart < window)
