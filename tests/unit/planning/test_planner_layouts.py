"""Which layouts are legal, which numbers of GPUs are tried, what a pool's GPU can do."""

from dataclasses import replace
from typing import Any

import pytest
from finetune_operator.planning.defaults import resolve
from finetune_operator.planning.host import host_memory_gib
from finetune_operator.planning.layouts import (
    Layout,
    Rung,
    Work,
    batch_for,
    gpu_counts,
    illegal,
    micro_batch_sizes,
    split,
)
from finetune_operator.planning.pool_gpu import ASSUMED, LOCAL_CPU_SPEED, PoolGpu, gpu_of
from finetune_operator.planning.search import Question, work_of
from finetune_operator.planning.speed.step import Speed

from tests.unit.planning.planning_builders import a_llama, a_pool, a_preflight, a_spec

EIGHT_BIT = {"training": {"optimizer": "adamw-8bit"}}


@pytest.mark.parametrize(
    ("rung", "method", "gpus", "spec", "reason"),
    [
        (Rung(zero_stage=0), "lora", 8, {}, ""),
        (Rung(zero_stage=3), "qlora", 2, {}, ""),
        (Rung(zero_stage=3, offload="all"), "full", 1, {}, ""),
        (Rung(zero_stage=3), "full", 8, EIGHT_BIT, ""),
        (Rung(zero_stage=0), "full", 2, {}, "full fine-tuning on several GPUs requires ZeRO"),
        (Rung(zero_stage=3), "lora", 1, {}, "sharding needs at least two GPUs"),
        (Rung(zero_stage=3), "lora", 8, {"lora": {"variant": "adalora"}},
         "adalora does not work with ZeRO-3, which shards the gradients"),
        (Rung(zero_stage=3), "lora", 8, {"training": {"earlyStopping": {}}},
         "early stopping does not work with ZeRO-3, which shards the weights"),
        (Rung(zero_stage=3), "lora", 8, {"lora": {"experts": True}},
         "adapters on experts do not work with ZeRO-3, which shards the experts"),
        (Rung(zero_stage=0), "qlora", 1, {"lora": {"experts": True}},
         "qlora cannot adapt experts: use method lora"),
        (Rung(zero_stage=2, offload="optimizer"), "full", 8, EIGHT_BIT,
         "an 8-bit optimizer cannot be offloaded: use optimizer adamw"),
        (Rung(zero_stage=3, offload="all"), "full", 8, {"training": {"precision": "bf16"}},
         "offload requires float32 master weights, not bf16"),
    ],
)  # fmt: skip
def test_legal_combinations(rung: Rung, method: Any, gpus: int, spec: dict[str, Any], reason: str):
    """Optimizer, sharding, offload and AdaLoRA in one table."""
    resolved = resolve(a_spec(**spec), method=method, architecture=a_llama(), preflight=a_preflight())

    assert illegal(rung, gpus, resolved) == reason


@pytest.mark.parametrize(
    ("pool", "resources", "counts"),
    [
        ({}, {}, (1, 2, 4, 8, 16, 24, 32)),
        ({"gpusPerNode": 6, "maxNodes": 2}, {}, (1, 2, 4, 6, 12)),
        ({"maxNodes": 1}, {"maxGpus": 4}, (1, 2, 4)),
        ({}, {"gpus": 12}, (12,)),
        ({}, {"gpus": 64}, ()),
        ({"resourceName": "nvidia.com/mig-3g.40gb"}, {}, (1,)),
        ({"interconnect": {"betweenNodes": "none"}}, {}, (1, 2, 4, 8)),
        ({"maxNodes": 0}, {}, ()),
    ],
)
def test_numbers_of_gpus(pool: dict[str, Any], resources: dict[str, Any], counts: tuple[int, ...]):
    """Parts of a node, then whole nodes, within the pool and the user's limits."""
    assert gpu_counts(a_pool(**pool).spec, a_spec(resources=resources).resources) == counts


def test_replicas_are_alike():
    """12 GPUs on nodes of 8 are two Pods of 6."""
    assert (split(12, 8), split(8, 8), split(3, 8), split(24, 8)) == ((2, 6), (1, 8), (1, 3), (3, 8))


def test_a_batch_on_so_many_gpus():
    """A default moves among those that round to the same power of two, a number of the user's not at all."""
    assert [batch_for(gpus, wanted=32, fixed=False) for gpus in (1, 3, 12, 24, 48, 64)] == [32, 33, 36, 24, 48, None]
    assert [batch_for(gpus, wanted=32, fixed=True) for gpus in (1, 3, 8)] == [32, None, 32]


def test_micro_batches_divide_the_work_up_to_16k_tokens():
    """A GPU is busy with that; more only takes memory. One row is always possible."""
    assert micro_batch_sizes(12, 2048) == (1, 2, 3, 4, 6)
    assert micro_batch_sizes(8, 32768) == (1,)


@pytest.mark.parametrize(
    ("pool", "gpu"),
    [
        ({}, PoolGpu(usable_gib=79.1, speed=Speed(tflops=794, bandwidth_tbps=3.35, fast=True))),
        ({"gpuType": "NVIDIA-L40S"}, PoolGpu(usable_gib=44.3, speed=Speed(tflops=0.8 * 362, bandwidth_tbps=0.86))),
        ({"gpuType": "Tesla-T4"}, None),
        ({"resourceName": "nvidia.com/mig-3g.40gb", "memoryGiB": "39.55"},
         PoolGpu(usable_gib=39.55, speed=Speed(tflops=397, bandwidth_tbps=1.675, fast=True))),
        ({"gpuType": "ACME-X9", "memoryGiB": "64"}, PoolGpu(usable_gib=64, speed=ASSUMED)),
        ({"gpuType": "local-cpu", "memoryGiB": "16"}, PoolGpu(usable_gib=16, speed=LOCAL_CPU_SPEED)),
        ({"gpuType": "ACME-X9"}, None),
    ],
)  # fmt: skip
def test_a_pools_gpu(pool: dict[str, Any], gpu: PoolGpu | None):
    """From the catalogue, a share of it, assumed, or unknown."""
    assert gpu_of(a_pool(**pool).spec) == gpu


@pytest.mark.parametrize(
    ("gpus", "rung", "accumulation", "gib"),
    [
        (1, Rung(zero_stage=2, offload="optimizer"), 1, 18),
        (1, Rung(zero_stage=2, offload="optimizer"), 4, 20),
        (1, Rung(zero_stage=3, offload="optimizer"), 4, 18),
        (1, Rung(zero_stage=3, offload="all"), 1, 20),
    ],
)
def test_host_memory_of_offload_by_what_deepspeed_keeps_there(gpus: int, rung: Rung, accumulation: int, gib: int):
    """Bytes per parameter, of a billion of them: what the buffers of stage_1_and_2.py and stage3.py add up to."""
    work = replace(a_work(), num_trainable_parameters=2**30, model_bytes=0)
    layout = Layout(
        method="full", replicas=1, gpus_per_replica=gpus, rung=rung, activation_checkpointing=True, micro_batch_size=1,
        gradient_accumulation_steps=accumulation,
    )  # fmt: skip
    publishing = 2.0  # the 16-bit model, which rank 0 collects

    assert host_memory_gib(work, layout, card_gib=79.1) == 4.0 * gpus + gib + publishing


@pytest.mark.parametrize(
    ("stage", "gpus", "precision", "gib"),
    [(0, 1, "mixed", 4 * 3), (0, 1, "bf16", 2 * 3), (2, 2, "mixed", 4 * 3), (3, 2, "mixed", 2 * 4e9 / 2**30)],
)
def test_host_memory_holds_what_a_checkpoint_takes_off_the_gpus_at_once(
    stage: Any, gpus: int, precision: str, gib: float
):
    """3 billion weights: the whole file of one GPU, a process' share of the masters at stage 2, a sub-group of them at stage 3."""
    work = replace(a_work(precision=precision), num_trainable_parameters=3 * 2**30, model_bytes=0)
    layout = Layout(
        method="full", replicas=1, gpus_per_replica=gpus, rung=Rung(zero_stage=stage), activation_checkpointing=True,
        micro_batch_size=1, gradient_accumulation_steps=1,
    )  # fmt: skip

    assert host_memory_gib(work, layout, card_gib=139.7) == pytest.approx(4.0 * gpus + gib)


def test_stage_2_lays_a_large_model_end_to_end_in_host_memory():
    """On a card with room for one 16-bit model, not for two: each of eight processes holds both on the host."""
    work = replace(a_work(), num_trainable_parameters=24 * 2**30, model_bytes=0)
    layout = Layout(
        method="full", replicas=1, gpus_per_replica=8, rung=Rung(zero_stage=2), activation_checkpointing=True,
        micro_batch_size=1, gradient_accumulation_steps=1,
    )  # fmt: skip

    assert host_memory_gib(work, layout, card_gib=79.1) == 8 * 4.0 + 8 * 2 * 48
    assert host_memory_gib(work, layout, card_gib=139.7) == 8 * 4.0 + 96  # then the masters of a checkpoint need most


def a_work(precision: str = "mixed") -> Work:
    """Return a full fine-tune of Llama-3.1-8B."""
    pool = a_pool()
    question = Question(
        spec=a_spec(method="full", training={"precision": precision}),
        architecture=a_llama(),
        preflight=a_preflight(),
        pools=(pool,),
    )
    return work_of(question, "full")
