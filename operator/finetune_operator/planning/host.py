"""What a Pod needs beside its GPUs: memory, cores, disk. Called by candidate and search."""

import math
from dataclasses import dataclass

from finetune_operator.api.locations import is_on_volume
from finetune_operator.api.plan import HostNeeds
from finetune_operator.api.pools import GPUPool
from finetune_operator.planning.layouts import Layout, Work
from finetune_operator.planning.quota import pods_of, shortages
from finetune_operator.planning.saving import GIB, first_node_bytes, published_bytes

PROCESS_GIB = 4.0
"""Resident memory of one process with torch, CUDA, NCCL and the tokenizer, before it holds any weights."""

CARD_OVERHEAD_GIB = 4.2
"""What CUDA, NCCL and DeepSpeed take of a GPU (memory.constants)."""

SHARD_GIB = 5.0
"""Largest file of a model on a hub: weights are read file by file, by every process."""

CPUS_PER_GPU = 4
"""One core drives the GPU, the others read rows, compress checkpoints and serve NCCL."""

OFFLOAD_CPUS_PER_GPU = 8
"""CPUAdam computes on all cores it gets."""

ALLOCATABLE = 0.9
"""Of a node's cores, what its own daemons leave to Pods."""

SHM_GIB, SHM_PER_GPU_GIB = 1, 1
"""Shared memory: data loader queues and NCCL's host buffers (about 10 MiB per channel and peer)."""

DISK_BASE_GIB = 10.0
"""Logs, kernels that Triton compiles, tokenised rows of a small dataset."""

BYTES_PER_TOKEN_ON_DISK = 16
"""Raw text, its tokens and the mask."""


def host_needs(work: Work, layout: Layout, pool: GPUPool, *, card_gib: float) -> HostNeeds:
    """Return memory, cores and disk of one Pod, on GPUs of `card_gib`. Cores are at most its share of its node and of the quota."""
    gpus = layout.gpus_per_replica
    shm = SHM_GIB + SHM_PER_GPU_GIB * gpus
    return HostNeeds(
        memory_gib=math.ceil(host_memory_gib(work, layout, card_gib=card_gib) + shm),
        cpus=cpus(work, layout, pool),
        ephemeral_gib=math.ceil(disk_gib(work, layout)),
        shm_gib=shm,
    )


def host_memory_gib(work: Work, layout: Layout, *, card_gib: float) -> float:
    """Return the peak over loading, training and saving of one Pod, on GPUs of `card_gib`."""
    gpus, model = layout.gpus_per_replica, work.model_bytes / GIB
    loading = gpus * min(model, SHARD_GIB)
    # rank 0 collects the whole model to publish it
    publishing = published_bytes(work) / GIB if work.method == "full" and layout.rung.zero_stage else 0.0
    training = _offloaded_gib(work, layout) + max(loading, publishing, _saving_gib(work, layout))
    return gpus * PROCESS_GIB + max(training, _flattening_gib(work, layout, card_gib))


ONE_FILE_BYTES = 50e9
"""Largest file that transformers 5 writes."""

SUB_GROUP_ELEMENTS = 1e9
"""What stage 3 keeps in one buffer at most."""


def _saving_gib(work: Work, layout: Layout) -> float:
    """Return what leaves the GPUs at once when a checkpoint of a full fine-tune is written; an adapter is small.

    safetensors 0.8 copies all tensors of a file to host memory before it writes the first (_flatten_as_ptr), so a model on one GPU
    is there whole. torch.save brings one buffer after the other: with sharding a process' share of the masters.
    """
    if work.method != "full":
        return 0.0
    trained, precision = work.num_trainable_parameters, work.resolved.training.precision
    match layout.rung.zero_stage:
        case 0:
            return min((4 if precision == "mixed" else 2) * trained, ONE_FILE_BYTES) / GIB
        case 2:
            share = trained / layout.gpus
        case _:
            share = min(trained / layout.gpus, SUB_GROUP_ELEMENTS)
    return 0.0 if layout.rung.offload != "none" else layout.gpus_per_replica * 4 * share / GIB


OFFLOADED = {"none": 0, "optimizer": 18, "all": 20}
"""Bytes of host memory per parameter (deepspeed 0.19, stage_1_and_2.py and stage3.py): masters, two moments and the gradient in float32,
16; at stage 2 the 16-bit copy that goes back to the GPU, at stage 3 the 16-bit gradients of the backward pass, 2; with `all` the 16-bit
weights, 2."""


def _offloaded_gib(work: Work, layout: Layout) -> float:
    """Stage 2 keeps 16-bit gradients too, where they accumulate. Pinned buffers are as large as asked for (pod.LIBRARIES)."""
    each = OFFLOADED[layout.rung.offload]
    if each and layout.rung.zero_stage == 2 and layout.gradient_accumulation_steps > 1:
        each += 2
    return each * work.num_trainable_parameters / layout.replicas / GIB


def _flattening_gib(work: Work, layout: Layout, card_gib: float) -> float:
    """Return what stage 2 takes to lay the 16-bit model end to end before training.

    Each process does it in host memory, twice the model, where the GPU has no room for a second one (stage_1_and_2.py,
    flatten_on_accelerator).
    """
    model = 2.0 * work.num_trainable_parameters / GIB
    if layout.rung.zero_stage != 2 or work.method != "full" or 2 * model + CARD_OVERHEAD_GIB <= card_gib:
        return 0.0
    return 2 * model * layout.gpus_per_replica


def cpus(work: Work, layout: Layout, pool: GPUPool) -> int:
    """Return the cores of one Pod: what it can use, at most its share of a node's allocatable part and of what a quota allows."""
    wanted = layout.gpus_per_replica * (CPUS_PER_GPU if layout.rung.offload == "none" else OFFLOAD_CPUS_PER_GPU)
    share = pool.spec.node.cpus * ALLOCATABLE * layout.gpus_per_replica / pool.spec.gpus_per_node
    allowed = work.limits.cpus_per_pod(layout.replicas)
    return max(1, min(wanted, math.floor(share), wanted if allowed is None else allowed))


def disk_gib(work: Work, layout: Layout) -> float:
    """Return local disk of one Pod: model, data, a checkpoint being replaced, the result."""
    model = 0.0 if is_mounted(work) else work.model_bytes / GIB
    data = work.rows * work.mean_tokens * BYTES_PER_TOKEN_ON_DISK / GIB
    checkpoints = 2 * first_node_bytes(work, layout) / GIB
    return DISK_BASE_GIB + model + data + checkpoints + published_bytes(work) / GIB


def is_mounted(work: Work) -> bool:
    """The model lies on a volume and is read in place."""
    return is_on_volume(work.resolved.model.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostShortage:
    """What a node has too little of, or the namespace's quota."""

    reason: str
    excess: float
    """Need over supply, less one; of everything that lacks together."""


def host_shortage(work: Work, layout: Layout, pool: GPUPool, *, card_gib: float) -> HostShortage | None:
    """Say why nodes of the pool cannot hold the Pods, or the namespace may not have them; None: they can."""
    needs, node = host_needs(work, layout, pool, card_gib=card_gib), pool.spec.node
    pairs = (
        ("host memory", needs.memory_gib, node.memory_gib),
        ("local disk", needs.ephemeral_gib, node.ephemeral_gib),
    )
    short = [
        (f"{need:,} GiB of {what} (a node has {has:,} GiB)", need / has - 1) for what, need, has in pairs if need > has
    ]
    pods = pods_of(pool.spec, layout.replicas, layout.gpus_per_replica, needs)
    short += [(one.text, one.excess) for one in shortages(work.limits, pods)]
    if not short:
        return None
    return HostShortage(
        reason=f"needs {' and '.join(text for text, _ in short)}", excess=sum(each for _, each in short)
    )
