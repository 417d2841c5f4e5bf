"""Inputs for the tests of decisions: a job, a pool, a plan, reports of Pods. Called by the tests and by world."""

from datetime import UTC, datetime
from typing import Any

from finetune_contract import Artifact, EvaluationResult, Outcome, PreflightReport, Progress
from finetune_operator.api.plan import ModelArchitecture, Plan, PoolSnapshot
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.lifecycle.observation import SeenPod
from finetune_operator.lifecycle.results import preflight_status
from finetune_operator.planning.defaults import resolve
from finetune_operator.planning.models.architecture import architecture

from tests.unit.smallest_spec import PINNED_SPEC

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
JOB_UID = "5d0c1f5e-0000-4000-8000-000000000001"

SMOLLM2_CONFIG = {
    "architectures": "LlamaForCausalLM", "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
    "max_position_embeddings": 8192, "tie_word_embeddings": True, "rms_norm_eps": 1e-05, "torch_dtype": "bfloat16",
}  # fmt: skip


SMOLLM2 = ModelArchitecture(
    model_type="llama", num_parameters=134_515_008, num_embedding_parameters=28_311_552,
    num_active_parameters=134_515_008, hidden_size=576, intermediate_size=1536, num_layers=30, num_attention_heads=9,
    num_key_value_heads=3, head_dim=64, vocab_size=49152, max_position_embeddings=8192, tied_embeddings=True,
    config="{}",
)  # fmt: skip


def a_job(status: FineTuneJobStatus | None = None, *, generation: int = 1, **spec: Any) -> FineTuneJob:
    """Return the smallest job, with parts of its spec replaced."""
    meta = {"name": "bot", "namespace": "team-a", "uid": JOB_UID, "generation": generation, "resourceVersion": "1"}
    job = FineTuneJob.model_validate({"metadata": meta, "spec": PINNED_SPEC | spec})
    return job if status is None else job.model_copy(update={"status": status})


def a_pool(**parts: Any) -> GPUPool:
    """Return a pool of four nodes with one H100 each at 3.60 USD: 0.001 USD a second."""
    spec = {
        "gpuType": "NVIDIA-H100-80GB-HBM3",
        "gpusPerNode": 1,
        "maxNodes": 4,
        "node": {"cpus": 32, "memoryGiB": 256, "ephemeralGiB": 1000},
        "nodeSelector": [{"key": "nvidia.com/gpu.product", "value": "NVIDIA-H100-80GB-HBM3"}],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "pricePerGPUHourUSD": "3.60",
        **parts,
    }
    return GPUPool.model_validate({"metadata": {"name": "h100", "uid": "h100"}, "spec": spec})


def a_report(**found: Any) -> PreflightReport:
    """Return what preflight finds in 4,800 chats."""
    values: dict[str, Any] = {
        "run_digest": "sha256:" + "a" * 64, "model_revision": "c" * 40, "model_config": SMOLLM2_CONFIG,
        "model_bytes": 269_060_552, "dataset_digest": "sha256:" + "d" * 64, "examples": 4800,
        "evaluation_examples": 200, "tokens": 7_200_000, "trained_tokens": 3_600_000, "tokens_p50": 1320,
        "tokens_p99": 3911, "tokens_max": 6000, "length_step": 500, "rows_by_length": (100, 900, 1900, 1000, 500, 250, 100, 50),
        "truncated_rows": 12, "dropped_rows": 0, "masked_rows": 0,
        "duplicates": 3, "sampled": False, "sequence_length": 4096, "packed_rows": 1850,
    }  # fmt: skip
    return PreflightReport(**{**values, **found})


def examined(**found: Any) -> Outcome:
    """Return the outcome of a preflight that found everything in order."""
    return Outcome(outcome="Succeeded", reason="Examined", message="all in order", preflight=a_report(**found))


def published(**parts: Any) -> Outcome:
    """Return the outcome of a run that is done."""
    adapter = Artifact(
        kind="adapter", uri="s3://team-a/out/adapter", digest="sha256:" + "e" * 64, size_bytes=4_900_000,
        base_model="hf://org/model", base_revision="c" * 40, lora_rank=16, servable="vllm",
    )  # fmt: skip
    result = EvaluationResult(examples=200, base_loss=2.0, tuned_loss=1.5)
    values: dict[str, Any] = {
        "outcome": "Succeeded", "reason": "Published", "message": "published", "step": 169, "checkpoint_step": 160,
        "checkpoint_uri": "s3://team-a/out/.checkpoints/attempt-0-step-160", "peak_memory_gib": 12.5,
        "peak_reserved_gib": 14.0, "loading_peak_gib": 9.5, "evaluation": result, "artifacts": (adapter,),
    }  # fmt: skip
    return Outcome(**{**values, **parts})


def a_failure(reason: str = "TrainerError", message: str = "it broke", **parts: Any) -> Outcome:
    """Return the outcome of a container that failed."""
    return Outcome(outcome="Failed", reason=reason, message=message, **parts)


def a_preemption(step: int, checkpoint_step: int | None = None) -> Outcome:
    """Return the outcome of a trainer that was told to end and saved."""
    saved = step if checkpoint_step is None else checkpoint_step
    return Outcome(
        outcome="Preempted", reason="Preempted", message=f"saved at step {saved}", step=step, checkpoint_step=saved
    )


def a_pod(**parts: Any) -> SeenPod:
    """Return a trainer Pod that has just been created."""
    values: dict[str, Any] = {
        "name": "bot-0-0", "uid": "pod-1", "role": "trainer", "owner_uid": JOB_UID, "created_at": NOW,
    }  # fmt: skip
    return SeenPod(**{**values, **parts})


def a_progress(step: int, **parts: Any) -> Progress:
    """Return a report from the middle of training."""
    values: dict[str, Any] = {"phase": "training", "step": step, "total_steps": 169, "loss": 1.25}
    return Progress(**{**values, **parts})


def pinned_status(job: FineTuneJob, pool: GPUPool, **plan: Any) -> FineTuneJobStatus:
    """Return the status of a job right after planning; the plan is fixed here, so that no planner changes a test."""
    preflight = preflight_status(a_report(), architecture(SMOLLM2_CONFIG))
    resolved = resolve(job.spec, method=plan.get("method", "lora"), architecture=SMOLLM2, preflight=preflight)
    values = {"preflight": preflight, "resolved": resolved, "run_digest": "sha256:" + "a" * 64}
    return job.status.model_copy(update=values | {"plan": a_plan(pool, replicas=job.spec.resources.gpus or 1, **plan)})


def a_plan(pool: GPUPool, *, replicas: int = 1, **parts: Any) -> Plan:
    """Return lora on one GPU per replica, micro batch 4."""
    snapshot = {name: getattr(pool.spec, name) for name in PoolSnapshot.model_fields if name != "name"}
    values: dict[str, Any] = {
        "summary": f"lora on {replicas} x H100-80GB-HBM3", "method": "lora", "pool": {"name": "h100", **snapshot},
        "replicas": replicas, "gpus_per_replica": 1, "zero_stage": 0, "offload": "none",
        "activation_checkpointing": False, "attention": "sdpa", "loss_kernel": "tiled", "precision": "bf16",
        "optimizer": "adamw", "packing": True, "micro_batch_size": 4, "gradient_accumulation_steps": 8,
        "global_batch_size": 32 * replicas, "steps": 169, "tokens_per_step": 124_541, "evaluate_every_steps": 9,
        "num_trainable_parameters": 4_884_480,
        "vram": {
            "weights_gib": "0.25", "adapter_gib": "0.02", "gradients_gib": "0.02", "optimizer_gib": "0.04",
            "activations_gib": "10.77", "logits_gib": "0.38", "overhead_gib": "1.44", "total_gib": "12.92",
            "request_gib": "14.20", "usable_gib": "79.10", "confidence": "high",
        },
        "host": {"memory_gib": 16, "cpus": 4, "ephemeral_gib": 20, "shm_gib": 2},
        "checkpoint": {
            "size_gib": "0.05", "save_seconds": 2, "interval_seconds": 60, "grace_seconds": 30,
            "loss_on_reclaim_seconds": 0,
        },
        "estimate": {
            "tokens_per_second": "141669", "seconds": 250, "gpu_hours": "0.07", "cost_usd": "0.25",
            "low_usd": "0.20", "high_usd": "0.33",
        },
        "image": "finetune-trainer:dev",
    }  # fmt: skip
    return Plan.model_validate(values | parts)
