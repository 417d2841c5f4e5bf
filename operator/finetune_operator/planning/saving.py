"""How a run is made safe, and how its result leaves the GPUs: checkpoints, grace, publishing. Called by candidate, duration and report."""

import math
from dataclasses import dataclass

from finetune_operator.api.locations import is_read_back
from finetune_operator.api.plan import CheckpointPlan
from finetune_operator.api.pools import GPUPool
from finetune_operator.planning.dtypes import BFLOAT16, base_dtype
from finetune_operator.planning.layouts import Layout, Work

GIB = 2**30

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
    last_save_seconds: float
    """After the last step."""
    publish_seconds: float


def saving(work: Work, layout: Layout) -> Saving:
    """Return how large a checkpoint is and how long saving and publishing take."""
    save = 1 + first_node_bytes(work, layout) / GIB / WRITE_GIB_PER_SECOND
    weights = weights_bytes(work, layout) / GIB
    return Saving(
        checkpoint_gib=checkpoint_bytes(work) / GIB,
        save_seconds=save,
        last_save_seconds=1 + weights / WRITE_GIB_PER_SECOND if weights_suffice(work, layout) else save,
        publish_seconds=HAND_OVER_SECONDS if is_handed_over(work, layout) else publish_seconds(work),
    )


def is_handed_over(work: Work, layout: Layout) -> bool:
    """Tell whether the model is left to a Pod without GPUs: its upload takes long, and a checkpoint holds the very weights."""
    return work.method == "full" and weights_suffice(work, layout) and publish_seconds(work) > work.gpu_publish_seconds


def weights_suffice(work: Work, layout: Layout) -> bool:
    """Tell whether checkpoints hold the very weights that are published: then the last one holds nothing else.

    With sharding those of a full fine-tune are bfloat16 copies of float32 masters, which are published of a base in bfloat16, and by
    early stopping; an adapter's are small, and stay whole.
    """
    if not layout.rung.zero_stage:
        return True
    made = base_dtype(work.model_dtype, work.model_bytes, work.architecture.num_parameters)
    return work.method == "full" and (made == BFLOAT16 or work.resolved.training.early_stopping is not None)


def weights_bytes(work: Work, layout: Layout) -> float:
    """Return what a checkpoint has of whole weights, which one process writes."""
    if work.method == "full":
        in_float32 = layout.rung.zero_stage == 0 and work.resolved.training.precision == "mixed"
    else:
        in_float32 = work.method == "lora"
    return float(work.num_trainable_parameters * (4 if in_float32 else 2))


def first_node_bytes(work: Work, layout: Layout) -> float:
    """Return what rank 0's node writes of a checkpoint: whole weights, and its share of what is sharded. No other writes more."""
    weights = weights_bytes(work, layout)
    nodes = layout.replicas if layout.rung.zero_stage else 1
    return weights + (checkpoint_bytes(work) - weights) / nodes


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
