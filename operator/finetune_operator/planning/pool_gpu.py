"""What a pool's GPUs can hold and do: from the catalogue, or assumed for a card that it lacks. For search."""

from dataclasses import dataclass

from finetune_operator.api.pools import GPUPoolSpec
from finetune_operator.planning.pools.gpus import Gpu, gpu, unsupported
from finetune_operator.planning.speed.step import Speed

SUSTAINED = 0.8
"""Of the nominal peak, where nobody measured the largest product (H100: 794 of 989, A100: 271 of 312)."""

FAST_TFLOPS = 700
"""Nominal; H100 and later. speed.constants says what is different about them."""

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
    """Return what a GPU of the pool offers, or None where it cannot be used (`refused` says why)."""
    if refused(pool):
        return None
    entry, given = gpu(pool.gpu_type), float(pool.memory_gib) if pool.memory_gib else 0.0
    if entry is not None:
        # a MIG slice has about the share of the card's units that it has of its memory
        share = min(1.0, given / entry.memory_gib) if given and "/mig-" in pool.resource_name else 1.0
        return PoolGpu(usable_gib=given or entry.memory_gib, speed=speed_of(entry, share))
    return PoolGpu(usable_gib=given, speed=LOCAL_CPU_SPEED if pool.gpu_type == LOCAL_CPU else ASSUMED)


def refused(pool: GPUPoolSpec) -> str:
    """Say why nothing can be planned on a pool's GPUs; empty: something can."""
    entry = gpu(pool.gpu_type)
    if entry is not None and (reason := unsupported(entry)):
        return reason
    if pool.resource_name.startswith("amd.com/"):
        return f"resourceName {pool.resource_name} is an AMD GPU, which cannot run the trainer image: use NVIDIA GPUs"
    if entry is None and not pool.memory_gib:
        return f"gpuType {pool.gpu_type} is not in the catalogue (`finetune gpus`): set memoryGiB in the pool"
    return ""


def speed_of(entry: Gpu, share: float = 1.0) -> Speed:
    """Return the speed of a share of a card."""
    sustained = entry.measured_tflops or SUSTAINED * entry.tflops
    return Speed(
        tflops=share * sustained,
        bandwidth_tbps=share * entry.memory_tbps,
        fast=entry.tflops > FAST_TFLOPS,
    )
