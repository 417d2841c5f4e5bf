"""Inputs for the planner's tests: a spec, what preflight found, pools."""

from typing import Any

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.planning.models.architecture import architecture

from tests.unit.smallest_spec import PINNED_SPEC


def a_spec(**parts: Any) -> FineTuneJobSpec:
    """Return the smallest spec, with parts replaced."""
    return FineTuneJobSpec.model_validate(PINNED_SPEC | parts)


def a_preflight(**found: Any) -> PreflightStatus:
    """Return 4,800 chats of 1,500 tokens on average, which pack into 1,850 rows of 4,096."""
    values: dict[str, Any] = {
        "model_revision": "c" * 40, "model_bytes": 16_060_522_496, "dataset_digest": "sha256:" + "d" * 64,
        "examples": 4800, "evaluation_examples": 200, "tokens": 7_200_000, "trained_tokens": 3_600_000,
        "tokens_p50": 1320, "tokens_p99": 3911, "tokens_max": 6000, "truncated_rows": 12, "truncated_percent": "0.25",
        "dropped_rows": 0, "masked_rows": 0, "duplicates": 3, "sampled": False, "sequence_length": 4096,
        "packed_rows": 1850,
    }  # fmt: skip
    return PreflightStatus.model_validate({**values, **found})


def a_tiny_preflight(**found: Any) -> PreflightStatus:
    """Return the demo's size: 200 short rows for a model of 135 million parameters."""
    tiny: dict[str, Any] = {
        "model_bytes": 269_060_552, "examples": 200, "evaluation_examples": 10, "tokens": 12_000,
        "trained_tokens": 6000, "tokens_p50": 55, "tokens_p99": 120, "tokens_max": 150, "truncated_rows": 0,
        "truncated_percent": "0", "duplicates": 0, "sequence_length": 192, "packed_rows": 65,
    }  # fmt: skip
    return a_preflight(**{**tiny, **found})


def a_pool(name: str = "h100", **parts: Any) -> GPUPool:
    """Return four nodes of eight H100 with NVLink and InfiniBand at $2.50."""
    spec = {
        "gpuType": "NVIDIA-H100-80GB-HBM3",
        "gpusPerNode": 8,
        "maxNodes": 4,
        "node": {"cpus": 192, "memoryGiB": 2000, "ephemeralGiB": 3000},
        "interconnect": {"withinNode": "nvlink", "betweenNodes": "infiniband", "betweenNodesGbps": 3200},
        "pod": {"resources": [{"key": "rdma/ib", "quantity": 1}]},
        "pricePerGPUHourUSD": "2.50",
        **parts,
    }
    return GPUPool.model_validate({"metadata": {"name": name, "uid": name}, "spec": spec})


def a_laptop(**parts: Any) -> GPUPool:
    """Return the demo's pool."""
    laptop: dict[str, Any] = {
        "gpuType": "local-cpu", "memoryGiB": "16", "gpusPerNode": 2, "maxNodes": 2,
        "node": {"cpus": 8, "memoryGiB": 32, "ephemeralGiB": 100}, "interconnect": {}, "pricePerGPUHourUSD": "1.00",
    }  # fmt: skip
    return a_pool("laptop", **{**laptop, **parts})


LLAMA_8B: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "max_position_embeddings": 131072, "tie_word_embeddings": False,
}  # fmt: skip

LLAMA_70B = {
    **LLAMA_8B, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
}  # fmt: skip

MIXTRAL_8X7B = {
    **LLAMA_8B, "model_type": "mixtral", "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip

LLAMA_405B = {
    **LLAMA_8B, "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128,
}  # fmt: skip

SMOLLM2_135M = {
    **LLAMA_8B, "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}  # fmt: skip


def a_llama(**parts: Any) -> ModelArchitecture:
    """Return Llama-3.1-8B, with other numbers where they are given."""
    return architecture(LLAMA_8B).model_copy(update=parts)
