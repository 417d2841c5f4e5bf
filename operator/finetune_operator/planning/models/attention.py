"""Which attention a run is trained with: a pure rule over model and settings. Called by search; the trainer does what the plan says.

varlen: torch's variable-length FlashAttention, for rows laid end to end without padding or a mask. sdpa: one kernel per padded batch, with
a dense mask where rows are padded or packed. eager: written out, for models that have nothing else. tests/trainer/test_varlen.py holds the
rule against transformers' own classes.
"""

import json
from typing import Literal

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.planning.models.architecture import family_of
from finetune_operator.planning.models.families import latent_attention

Attention = Literal["varlen", "sdpa", "eager"]

LINEAR_ATTENTION = ("qwen3_next", "qwen3_5")
"""Families whose linear attention cannot keep rows apart that lie end to end: transformers refuses the step without
flash-linear-attention, which the trainer's image does not have."""

OWN_CODE = {
    "falcon": "transformers' Falcon calls its own attention",
    "llama4": "its layers see chunks of tokens, which the kernel does not have",
}
"""Families whose layers cannot be given this attention, by the beginning of their model_type."""


def attention_of(shape: ModelArchitecture, *, packed: bool, noise: bool) -> Attention:
    """Return the attention of a run. `noise`: NEFTune, whose strength falls with the length of what it is added to.

    Rows that lie end to end would get less of it than padded ones. Packed rows lie so anyway.
    """
    if family_of(shape).eager_only:
        return "eager"
    return "sdpa" if no_varlen(shape) or (noise and not packed) else "varlen"


def can_lie_end_to_end(shape: ModelArchitecture) -> bool:
    """Tell whether the model keeps rows apart that share a sequence."""
    return not shape.model_type.startswith(LINEAR_ATTENTION)


def no_varlen(shape: ModelArchitecture) -> str:
    """Say why a model cannot be trained with variable-length attention; empty: it can."""
    family = family_of(shape)
    config = {**family.defaults, **json.loads(shape.config)}
    heads = {shape.head_dim, config.get("global_head_dim") or _widest_head(shape)}
    odd = next((width for width in sorted(heads) if not kernel_takes(width)), None)
    table = (
        (family.eager_only, "its attention caps scores or has sinks"),
        (not can_lie_end_to_end(shape), "its linear attention cannot keep rows apart"),
        (family.attention is latent_attention, "its keys and values differ in width"),
        (bool(config.get("attention_dropout")), "its config.json asks for dropout in attention"),
        (odd is not None, f"its attention heads are {odd} wide"),
        *((shape.model_type.startswith(kind), why) for kind, why in OWN_CODE.items()),
    )
    return next((why for holds, why in table if holds), "")


def _widest_head(shape: ModelArchitecture) -> int:
    """Gemma 4's layers with full attention have heads of 512 unless config.json says otherwise."""
    return 512 if shape.model_type.startswith("gemma4") else shape.head_dim


def kernel_takes(head_dim: int) -> bool:
    """Tell whether torch's FlashAttention trains heads of this width on all GPUs from compute capability 8.0 on.

    Multiples of 8 up to 256, but for 200 to 224, which it cannot train on 8.6, 8.9 and 12.0 (torch's sdp_utils.cpp,
    check_requires_grad_and_head_dim_gt192_constraints_on_sm86_89_or_120).
    """
    return head_dim % 8 == 0 and (head_dim <= 192 or 224 < head_dim <= 256)
