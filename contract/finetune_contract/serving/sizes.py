"""What serving a model takes: weights, KV cache by length and concurrency, LoRA slots, and how many GPUs hold them. Part of contract.

The engine is vLLM, which reserves all of it when it starts, or llama.cpp, which maps its file.
"""

import math
from dataclasses import dataclass

from finetune_contract.engines import max_lora_rank
from finetune_contract.served import Load, ServedModel

GIB = 2**30

UTILISATION = 0.9
"""vLLM's --gpu-memory-utilization by default."""

ENGINE_GIB = 2.5
"""CUDA context, NCCL, CUDA graphs and the activations of one prefill chunk, per GPU."""

MOST_GPUS = 8
"""Of one node: tensor parallelism does not leave it here."""

SIXTEEN_BIT = 2

HOST_GIB = 8
"""Host memory of vLLM beside one copy of the weights, through which they are read."""

LLAMA_CPP_GIB = 1.0
"""Beside model and KV cache."""

SPARE_DISK, SPARE_DISK_GIB = 1.1, 2
"""Times what is fetched, and beside it."""


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


def serving_needs(model: ServedModel, load: Load) -> ServingNeeds:
    """Return the memory that a 16-bit model takes under a load."""
    slot = model.adapter_parameters_per_rank * max_lora_rank(load.lora_rank) * SIXTEEN_BIT
    return ServingNeeds(
        weights_gib=SIXTEEN_BIT * model.num_parameters / GIB,
        kv_cache_gib=kv_cache_gib(model, load),
        lora_gib=load.adapters * slot / GIB,
    )


def kv_cache_gib(model: ServedModel, load: Load) -> float:
    """Return what the keys and values of all requests take."""
    return model.kv_bytes_per_token * load.length * load.concurrency / GIB


def gpus_for(needs: ServingNeeds, model: ServedModel, memory_gib: float) -> int | None:
    """Return the fewest GPUs that hold it, a number that divides the attention heads; None where a node's do not."""
    counts = (count for count in (1, 2, 4, MOST_GPUS) if model.num_attention_heads % count == 0)
    return next((count for count in counts if needs.per_gpu_gib(count) <= UTILISATION * memory_gib), None)


def longest_for(model: ServedModel, load: Load, *, gpus: int, memory_gib: float) -> int:
    """Return how many tokens a request may have at most on these GPUs, at this concurrency; 0 where the weights do not fit."""
    needs = serving_needs(model, load)
    left = gpus * (UTILISATION * memory_gib - needs.engine_gib) - needs.weights_gib - needs.lora_gib
    return max(0, math.floor(left * GIB / (model.kv_bytes_per_token * load.concurrency)))


def vllm_host_gib(model: ServedModel) -> int:
    """Return the host memory of vLLM's Pod."""
    return math.ceil(SIXTEEN_BIT * model.num_parameters / GIB + HOST_GIB)


def llama_cpp_host_gib(model: ServedModel, load: Load, size_bytes: int) -> int:
    """Return the host memory of llama.cpp's Pod: the file, which is mapped, and the KV cache."""
    return math.ceil(size_bytes / GIB + kv_cache_gib(model, load) + LLAMA_CPP_GIB)


def disk_gib(model: ServedModel, size_bytes: int, *, base: bool) -> int:
    """Return the local disk for what is fetched. `base`: the base model beside the adapters."""
    fetched = size_bytes / GIB + (SIXTEEN_BIT * model.num_parameters / GIB if base else 0)
    return math.ceil(SPARE_DISK * fetched + SPARE_DISK_GIB)
