"""What a Pod needs beside its GPUs, and how the run is made safe: memory, disk, checkpoints. Called by planner."""

import math
from dataclasses import dataclass

from finetune_operator.api.locations import is_on_volume, is_read_back
from finetune_operator.api.plan import CheckpointPlan, HostNeeds
from finetune_operator.api.pools import GPUPool
from finetune_operator.planning.layouts import Layout, Work
from finetune_operator.planning.quota import pods_of, shortages

GIB = 2**30

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

WRITE_GIB_PER_SECOND = 0.3
"""One node to a bucket or network disk, steadily (2.5 Gbit/s); local disks are faster, but do not outlive the node."""

READ_GIB_PER_SECOND = 0.25
"""From a hub, bucket or registry to one node (2 Gbit/s)."""

NOTICE_SECONDS = 30
"""Shortest notice before a cloud takes back a spot node (AWS gives 120 s, Azure and Google 30 s)."""

FAILURE_SECONDS = {"spot": 4 * 3600.0, "on-demand": 14 * 24 * 3600.0}
"""Mean time between losses of one node: spot nodes live for hours, others for weeks."""

SHORTEST_INTERVAL, LONGEST_INTERVAL = 30, 3600
SAVES_PER_RUN = 5
"""A run is saved at least so often, however short: a checkpoint after the end is none."""

LEAST_GRACE_SECONDS = 30
HAND_OVER_SECONDS = 5.0
"""To leave tokenizer, figures and record beside the checkpoints."""

SAVES_AT_STOP = 2
"""The checkpoint that was on its way, and the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """The size and speed of checkpoints and results."""

    checkpoint_gib: float
    save_seconds: float
    publish_seconds: float


def saving(work: Work, layout: Layout) -> Saving:
    """Return how large a checkpoint is and how long saving and publishing take."""
    state = checkpoint_bytes(work) / GIB
    # every node writes its own shards; without sharding one process writes everything
    writers = layout.replicas if layout.rung.zero_stage else 1
    return Saving(
        checkpoint_gib=state,
        save_seconds=1 + state / writers / WRITE_GIB_PER_SECOND,
        publish_seconds=HAND_OVER_SECONDS if is_handed_over(work, layout) else publish_seconds(work),
    )


def is_handed_over(work: Work, layout: Layout) -> bool:
    """Tell whether the model is left to a Pod without GPUs: its upload takes long, and a checkpoint holds the very weights.

    With sharding a checkpoint holds 16-bit copies of float32 masters: those are published of a base in 16 bit, and by early stopping.
    """
    base_is_float32 = is_float32(work.model_bytes, work.architecture.num_parameters)
    copies = layout.rung.zero_stage > 0 and work.resolved.training.early_stopping is None
    return (
        work.method == "full" and not (copies and base_is_float32) and publish_seconds(work) > work.gpu_publish_seconds
    )


def is_float32(model_bytes: int, parameters: int) -> bool:
    """Tell whether a model's files hold float32 and not 16 bit. They have headers, and perhaps towers that are not trained."""
    return model_bytes > 3 * parameters


def publish_seconds(work: Work) -> float:
    """Return how long an attempt's GPUs wait for the upload of its result, and for reading it back."""
    result = published_bytes(work) / GIB
    read_back = result / READ_GIB_PER_SECOND if is_read_back(work.resolved.output.destination) else 0.0
    return 5 + result / WRITE_GIB_PER_SECOND + read_back


def checkpoint_bytes(work: Work) -> float:
    """Weights that train, two optimizer states, and for float32 masters a bfloat16 copy: 14 bytes per parameter."""
    trainable = work.num_trainable_parameters
    eight_bit = work.resolved.training.optimizer != "adamw"
    if work.method == "full":
        weights, state = (6, 4.0) if work.resolved.training.precision == "mixed" else (2, 2.0)
    else:
        weights, state = (4, 4.0) if work.method == "lora" else (2, 2.0)
    return float(trainable * (weights + 2 * (1.0 if eight_bit else state)))


def published_bytes(work: Work) -> float:
    """An adapter keeps the dtype that it was trained in; a model is published in its base's dtype, so as large as the base."""
    if work.method == "full":
        return float(max(work.model_bytes, 2 * work.num_trainable_parameters))
    return float(work.num_trainable_parameters * (4 if work.method == "lora" else 2))


def checkpoint_plan(
    work: Work, layout: Layout, pool: GPUPool, *, training_seconds: float, step_seconds: float
) -> CheckpointPlan:
    """Choose the interval that loses least (Young's rule) within the run, and the grace period that stopping needs.

    At SIGTERM the trainer finishes its step, waits for the checkpoint that is being uploaded, and saves and uploads another one.
    """
    needs = saving(work, layout)
    interval = _interval_seconds(needs, layout, pool, training_seconds)
    interval = work.resolved.checkpoint.interval_seconds or interval
    stopping = step_seconds + SAVES_AT_STOP * needs.save_seconds
    # an upload is under way for a tenth of the time at most (_interval_seconds): the usual loss is that without one
    on_notice = needs.save_seconds + step_seconds <= NOTICE_SECONDS
    return CheckpointPlan(
        size_gib=f"{needs.checkpoint_gib:.2f}",
        save_seconds=math.ceil(needs.save_seconds),
        interval_seconds=interval,
        grace_seconds=max(LEAST_GRACE_SECONDS, math.ceil(15 + 1.5 * stopping)),
        # without a save on notice the mean loss is half an interval, at most half the run, and the step under way
        loss_on_reclaim_seconds=0 if on_notice else math.ceil(min(interval, training_seconds) / 2 + step_seconds),
    )


def _interval_seconds(needs: Saving, layout: Layout, pool: GPUPool, training_seconds: float) -> int:
    between_failures = FAILURE_SECONDS[pool.spec.capacity] / layout.replicas
    young = math.sqrt(2 * needs.save_seconds * between_failures)
    longest = min(LONGEST_INTERVAL, max(SHORTEST_INTERVAL, training_seconds / SAVES_PER_RUN))
    # a save must stay a small part of the time it saves
    shortest = max(SHORTEST_INTERVAL, 10 * needs.save_seconds)
    return round(max(shortest, min(young, longest)))


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
    checkpoints = 2 * checkpoint_bytes(work) / GIB / (layout.replicas if layout.rung.zero_stage else 1)
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
