"""What serving a model takes: weights, KV cache by length and concurrency, LoRA slots, and how many GPUs hold them. Pure.

Called by the command line. The engine is vLLM, which reserves all of it when it starts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_contract.engines import max_lora_rank

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.planning.models.adapter import Adapter, adapter_parameters

GIB = 2**30

UTILISATION = 0.9
"""vLLM's --gpu-memory-utilization by default."""

ENGINE_GIB = 2.5
"""CUDA context, NCCL, CUDA graphs and the activations of one prefill chunk, per GPU."""

MOST_GPUS = 8
"""Of one node: tensor parallelism does not leave it here."""

SIXTEEN_BIT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of the server."""

    length: int
    """Most tokens of a request, prompt and answer."""
    concurrency: int
    """Requests at the same time, each of that length."""
    adapters: int = 0
    lora_rank: int = 0
    """The largest of any adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingNeeds:
    """Memory in GiB, over all GPUs but for the last term."""

    weights_gib: float
    kv_cache_gib: float
    lora_gib: float
    engine_gib: float = ENGINE_GIB

    def per_gpu_gib(self, gpus: int) -> float:
        """Return what each of so many GPUs holds."""
        return (self.weights_gib + self.kv_cache_gib + self.lora_gib) / gpus + self.engine_gib


def serving_needs(shape: ModelArchitecture, load: Load) -> ServingNeeds:
    """Return the memory that a 16-bit model takes under a load."""
    slot = Adapter(lora_rank=max_lora_rank(load.lora_rank))
    slots = load.adapters * adapter_parameters(shape, slot) * SIXTEEN_BIT if load.adapters else 0
    return ServingNeeds(
        weights_gib=SIXTEEN_BIT * shape.num_parameters / GIB,
        kv_cache_gib=kv_bytes_per_token(shape) * load.length * load.concurrency / GIB,
        lora_gib=slots / GIB,
    )


def kv_bytes_per_token(shape: ModelArchitecture) -> int:
    """Return what the keys and values of one token take in all layers, in 16 bit."""
    return 2 * shape.num_layers * shape.num_key_value_heads * shape.head_dim * SIXTEEN_BIT


def gpus_for(needs: ServingNeeds, shape: ModelArchitecture, memory_gib: float) -> int | None:
    """Return the fewest GPUs that hold it, a number that divides the attention heads; None where a node's do not."""
    counts = (count for count in (1, 2, 4, MOST_GPUS) if shape.num_attention_heads % count == 0)
    return next((count for count in counts if needs.per_gpu_gib(count) <= UTILISATION * memory_gib), None)


def longest_for(shape: ModelArchitecture, load: Load, *, gpus: int, memory_gib: float) -> int:
    """Return how many tokens a request may have at most on these GPUs, at this concurrency; 0 where the weights do not fit."""
    needs = serving_needs(shape, load)
    left = gpus * (UTILISATION * memory_gib - needs.engine_gib) - needs.weights_gib - needs.lora_gib
    return max(0, math.floor(left * GIB / (kv_bytes_per_token(shape) * load.concurrency)))


def described(shape: ModelArchitecture, load: Load, *, gpu_type: str, memory_gib: float) -> Sequence[str]:
    """Return the arithmetic in lines: what is held, on how many GPUs, with which options."""
    needs = serving_needs(shape, load)
    gpus = gpus_for(needs, shape, memory_gib)
    total = needs.weights_gib + needs.kv_cache_gib + needs.lora_gib
    kv = f"{kv_bytes_per_token(shape) / 1024:,.0f} KiB x {load.length:,} tokens x {load.concurrency} requests"
    terms = [f"weights {needs.weights_gib:.2f} GiB", f"KV cache {needs.kv_cache_gib:.2f} GiB ({kv})"]
    if load.adapters:
        rank = max_lora_rank(load.lora_rank)
        terms.append(
            f"{load.adapters} LoRA slot{'s' if load.adapters > 1 else ''} of rank {rank} {needs.lora_gib:.2f} GiB"
        )
    if gpus is None:
        longest = longest_for(shape, load, gpus=MOST_GPUS, memory_gib=memory_gib)
        fits = f"{MOST_GPUS} hold requests of {longest:,} tokens" if longest else f"{MOST_GPUS} do not hold the weights"
        where = f"does not fit on {MOST_GPUS} x {gpu_type}: {fits} at this concurrency"
    else:
        each = needs.per_gpu_gib(gpus)
        where = f"{gpus} x {gpu_type}: {each:.2f} of {UTILISATION * memory_gib:.2f} GiB per GPU, {needs.engine_gib} for the engine included"
    return ("; ".join(terms) + f" = {total:.2f} GiB", where)
