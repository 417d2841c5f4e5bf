"""Stacked experts under autocast: torch's grouped product does not know of it, so weights are cast here. Registered by load.

Without this a model with float32 masters would compute its experts in float32, which is most of its arithmetic, at a small
part of the GPU's speed.
"""

from typing import Any

import torch
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

WEIGHTS = ("gate_up_proj", "up_proj", "down_proj", "gate_up_proj_bias", "up_proj_bias", "down_proj_bias")


def register() -> None:
    """Put this in the place of transformers' own grouped product, its default."""
    ALL_EXPERTS_FUNCTIONS.register("grouped_mm", grouped_experts)


def grouped_experts(
    experts: torch.nn.Module, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Compute the chosen experts of each token, in autocast's type where it is on, as torch's linear layers do."""
    device = hidden_states.device.type
    if not torch.is_autocast_enabled(device):
        return grouped_mm_experts_forward(experts, hidden_states, top_k_index, top_k_weights)
    dtype = torch.get_autocast_dtype(device)
    out = grouped_mm_experts_forward(Cast(experts, dtype), hidden_states.to(dtype), top_k_index, top_k_weights)
    return out.to(hidden_states.dtype)


class Cast:
    """Experts as they are, but for the type of their weights."""

    def __init__(self, experts: torch.nn.Module, dtype: torch.dtype) -> None:
        self.experts = experts
        self.dtype = dtype

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.experts, name)
        return found.to(self.dtype) if name in WEIGHTS else found
