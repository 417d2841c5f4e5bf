"""Optimizer states in pages stay there after a resume. Called by saver when training begins."""

from typing import Any

import torch

PAGED = ("state1", "state2")
"""What bitsandbytes keeps in pages: both moments."""


def page_again(optimizer: Any) -> None:
    """Move the states of a paged optimizer, as load_state_dict left them, into buffers of its own kind.

    bitsandbytes 0.50 loads them as ordinary tensors on the GPU, where the plan has no room for them.
    """
    while hasattr(optimizer, "optimizer"):  # accelerate's and DeepSpeed's wrappers
        optimizer = optimizer.optimizer
    if not getattr(optimizer, "is_paged", False):
        return
    for parameter, state in optimizer.state.items():
        for name in PAGED:
            loaded = state.get(name)
            if loaded is None or getattr(loaded, "is_paged", False):
                continue
            state[name] = optimizer.get_state_buffer(parameter, dtype=loaded.dtype)
            state[name].copy_(loaded)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
