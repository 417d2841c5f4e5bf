"""What a pool's GPUs can hold and do: from the catalogue, or assumed for a card that it lacks. For search."""

from dataclasses import dataclass

from finetune_operator.api.pools import GPUPoolSpec
from finetune_operator.planning.pools.gpus import Gpu, gpu
from finetune_operator.planning.speed.step import Speed

SUSTAINED = 0.8
"""Of the nominal peak, where nobody measured the largest product (H100: 794 of 989, A100: 271 of 312)."""

FAST_TFLOPS = 700
"""Nominal; H100 and later. speed.constants says what is different about them."""

EMULATED = 0.12
"""Cards without bfloat16 compute it as float32, at an eighth of their 16-bit peak (T4: 8 of 65, V100: 15 of 125)."""

ASSUMED = Speed(tflops=100, bandwidth_tbps=1.0, known=False)
"""For a GPU that the catalogue does not have: a mid-size data-centre card. The estimate's confidence is low then."""

LOCAL_CPU = "local-cpu"
LOCAL_CPU_SPEED = Speed(tflops=0.08, bandwidth_tbps=0.02, known=False, shared=True)
"""The process node of the local cluster computes on the CPU. Measured: LoRA of a 135M model makes about 90 tokens
per second on one busy core in float32; every pretended GPU is the same CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolGpu:
    """One GPU of a pool."""

    usable_gib: float
    speed: Speed


def gpu_of(pool: GPUPoolSpec) -> PoolGpu | None:
    """Return what a GPU of the pool offers, or None where nobody says how much memory it has."""
    entry, given = gpu(pool.gpu_type), float(pool.memory_gib) if pool.memory_gib else 0.0
    if entry is not None:
        # a MIG slice has about the share of the card's units that it has of its memory
        share = min(1.0, given / entry.memory_gib) if given and "/mig-" in pool.resource_name else 1.0
        return PoolGpu(usable_gib=given or entry.memory_gib, speed=speed_of(entry, share))
    if not given:
        return None
    return PoolGpu(usable_gib=given, speed=LOCAL_CPU_SPEED if pool.gpu_type == LOCAL_CPU else ASSUMED)


def speed_of(entry: Gpu, share: float = 1.0) -> Speed:
    """Return the speed of a share of a card."""
    sustained = entry.measured_tflops or SUSTAINED * entry.tflops
    return Speed(
        tflops=share * (sustained if entry.bfloat16 else EMULATED * entry.tflops),
        bandwidth_tbps=share * entry.memory_tbps,
        known=entry.bfloat16,
        fast=entry.tflops > FAST_TFLOPS,
    )
