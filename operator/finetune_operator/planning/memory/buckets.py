"""Buckets in which gradients are reduced: DDP's and DeepSpeed's. Called by step_moments; zero2 walks through stage 2's."""

from finetune_operator.planning.memory.scenario import MemoryScenario
from finetune_operator.planning.memory.states import gradient_bytes, num_trained

DEFAULT_BUCKET = 500_000_000
"""DeepSpeed's default reduce_bucket_size (deepspeed/runtime/zero/config.py, 0.19)."""


def bucket_bytes(s: MemoryScenario) -> float:
    """Return DeepSpeed's 16-bit reduce buckets: two in stage 2, where communication overlaps, one in stage 3.

    5e8 elements by default, which our trainer keeps, as do examples that offload; other published configurations say 2e8
    for stage 2 and auto, a few megabytes, for stage 3.
    """
    default = s.loss_kernel == "tiled" or s.optimizer_offload
    match s.sharding:
        case "zero2":
            return 2 * 2.0 * (DEFAULT_BUCKET if default else 200_000_000)
        case "zero3":
            return 2.0 * (DEFAULT_BUCKET if default else 0)
        case "ddp":
            return gradient_bytes(s)  # DDP reduces in buckets, a second copy of all gradients
        case _:
            return 0.0


def flattened_bytes(s: MemoryScenario) -> float:
    """Return the copy of a bucket's gradients, laid end to end, that stage 2 averages."""
    return bucket_bytes(s) / 2 * min(1.0, num_trained(s) / DEFAULT_BUCKET) if s.sharding == "zero2" else 0.0
