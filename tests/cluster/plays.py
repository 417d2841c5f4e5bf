"""What Pods do when the stand-in plays them, and the objects that its tests apply. Called by standin and the tests."""

from dataclasses import dataclass, replace
from typing import Any

from finetune_contract import TRAINED, Artifact, EvaluationResult, Outcome, PreflightReport

from tests.cluster.client import Raw

GPU_NODE = "standin-gpu"
CPU_NODE = "standin-cpu"
GPU_PRODUCT = "NVIDIA-A100-SXM4-80GB"
LABEL = "standin.test/node"
POOL = "standin"

TINY_LLAMA = {
    "architectures": "LlamaForCausalLM",
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


@dataclass(frozen=True, kw_only=True)
class Play:
    """What one Pod does once it is scheduled."""

    run_seconds: float = 0.05
    exit_code: int = 0
    outcome: Outcome | None = None
    hold: bool = False
    """Run until it is deleted."""
    reason: str = ""
    """terminated.reason, where it is neither Completed nor Error."""


def a_preflight_report() -> PreflightReport:
    return PreflightReport(
        run_digest="sha256:" + "1" * 64,
        model_revision="0123456789abcdef0123456789abcdef01234567",
        model_config=dict(TINY_LLAMA),
        model_bytes=269_060_552,
        dataset_digest="sha256:" + "2" * 64,
        examples=1000,
        evaluation_examples=50,
        tokens=256_000,
        trained_tokens=128_000,
        tokens_p50=250,
        tokens_p99=500,
        tokens_max=512,
        length_step=50,
        rows_by_length=(0, 20, 60, 140, 230, 220, 150, 90, 60, 20, 10),
        truncated_rows=0,
        dropped_rows=0,
        masked_rows=0,
        duplicates=0,
        sampled=False,
        sequence_length=512,
        packed_rows=500,
    )


def preflight_succeeds() -> Play:
    report = a_preflight_report()
    return Play(outcome=Outcome(outcome="Succeeded", reason="Examined", message="1000 rows", preflight=report))


def preflight_fails(reason: str, message: str) -> Play:
    return Play(exit_code=87, outcome=Outcome(outcome="Failed", reason=reason, message=message))


def training_succeeds(run_seconds: float = 0.05) -> Play:
    adapter = Artifact(
        kind="adapter",
        uri="s3://bucket/out/adapter",
        digest="sha256:" + "3" * 64,
        size_bytes=1024,
        base_model="hf://test/tiny",
        base_revision="0123456789abcdef0123456789abcdef01234567",
        lora_rank=16,
        servable="vllm",
    )
    outcome = Outcome(
        outcome="Succeeded",
        reason="Published",
        message="adapter published",
        step=94,
        checkpoint_step=94,
        checkpoint_uri="s3://bucket/out/.checkpoints/attempt-0-step-94",
        peak_memory_gib=3.0,
        peak_reserved_gib=3.5,
        tokens_per_second=5000.0,
        training_seconds=10.0,
        final_loss=1.2,
        evaluation=EvaluationResult(examples=50, base_loss=2.0, tuned_loss=1.5),
        artifacts=(adapter,),
    )
    return Play(run_seconds=run_seconds, outcome=outcome)


def training_leaves_its_model() -> Play:
    """What an attempt says whose model a Pod without GPUs publishes."""
    outcome = training_succeeds().outcome
    assert outcome is not None
    return Play(outcome=replace(outcome, reason=TRAINED, message="trained 94 steps", artifacts=()))


def export_succeeds() -> Play:
    """What the Pod says that has published a model."""
    outcome = training_succeeds().outcome
    assert outcome is not None
    model = replace(outcome.artifacts[0], kind="model", uri="s3://bucket/out/model", lora_rank=0)
    return Play(outcome=Outcome(outcome="Succeeded", reason="Published", message="published", artifacts=(model,)))


def training_fails(reason: str, message: str, *, exit_code: int = 1, checkpoint_step: int | None = None) -> Play:
    step = checkpoint_step or 0
    outcome = Outcome(outcome="Failed", reason=reason, message=message, step=step, checkpoint_step=checkpoint_step)
    return Play(exit_code=exit_code, outcome=outcome)


def preempted(step: int) -> Play:
    """What a trainer says that got SIGTERM in time."""
    uri = f"s3://bucket/out/.checkpoints/attempt-0-step-{step}"
    outcome = Outcome(
        outcome="Preempted", reason="Preempted", message="saved", step=step, checkpoint_step=step, checkpoint_uri=uri
    )
    return Play(exit_code=85, outcome=outcome)


Script = dict[str, Play]
"""`preflight`, `0` (attempt 0), `0/1` (its replica 1), `export`, `export/0` (its first Pod), `sigterm` (what a deleted Pod says) -> what
happens."""


def a_pool() -> Raw:
    """Return the GPUPool of the GPU node."""
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": POOL},
        "spec": {
            "gpuType": GPU_PRODUCT,
            "gpusPerNode": 8,
            "maxNodes": 100,
            "node": {"cpus": 192, "memoryGiB": 2000, "ephemeralGiB": 3000},
            "nodeSelector": [{"key": LABEL, "value": GPU_NODE}],
            "pricePerGPUHourUSD": "2.00",
            "provisioningSeconds": 30,
        },
    }


def a_job(name: str, **spec: Any) -> Raw:
    """Return a small job in the stand-in's pool; keywords replace parts of the spec."""
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"source": "hf://test/tiny"},
            "datasets": [{"source": "s3://bucket/train.jsonl"}],
            "resources": {"pools": [POOL]},
            "output": {"destination": f"s3://bucket/{name}"},
            **spec,
        },
    }
