"""What a job that merges adapters takes: the plan beside what Pods took, and how it grows with the model and the data."""

from typing import Any

import pytest
from finetune_operator.api.plan import ExportPlan
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.planning.cpu_pod import CONTAINER_SECONDS
from finetune_operator.planning.merging import merge_plan
from finetune_operator.planning.models.architecture import architecture

from tests.unit.planning.planning_builders import LLAMA_8B, a_preflight

SHAPES: dict[str, dict[str, Any]] = {
    "135M": {
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49_152, "max_position_embeddings": 256, "tie_word_embeddings": True,
    },
    "1B": {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128_256, "max_position_embeddings": 256, "tie_word_embeddings": True,
    },
    "8B": LLAMA_8B,
}  # fmt: skip
ADAPTERS = {"135M": 39_100_000, "1B": 90_200_000, "8B": 84_000_000}
"""Bytes of one: of LoRA rank 64 on all linear layers, the last of rank 16."""


def planned(
    size: str, method: str = "average", *, cpus: int = 4, exports: tuple[str, ...] = (), **found: Any
) -> ExportPlan:
    """The plan for three adapters, whose result is measured on 12 rows of 40 tokens with answers of 8."""
    shape = architecture(SHAPES[size])
    spec = FineTuneJobSpec.model_validate(
        {
            "model": {"source": "pvc://models/base"}, "datasets": [{"source": "s3://team/rows.jsonl"}],
            "mergeOf": {"method": method, "adapters": [{"source": f"s3://team/{name}", "weight": "1"} for name in "abc"]},
            "evaluation": {"metrics": [{"type": "exactMatch"}], "maxAnswerTokens": 8},
            "output": {"destination": "s3://team/out", **({"exports": list(exports)} if exports else {})},
        }
    )  # fmt: skip
    values: dict[str, Any] = {
        "model_bytes": 2 * shape.num_parameters, "adapter_bytes": 3 * ADAPTERS[size], "evaluation_examples": 12,
        "tokens_p50": 40, "generated_answers": 12, "sequence_length": 64, "architecture": shape,
    }  # fmt: skip
    return merge_plan(spec, a_preflight(**values | found), cpus=cpus)


MEASURED = {
    # size, method, exports: CPU seconds of the whole Pod, GiB that it kept
    ("135M", "average", ()): (30, 1.54),
    ("135M", "svd", ()): (29, 1.42),
    ("135M", "dare", ()): (48, 1.44),
    ("135M", "ties", ()): (66, 1.44),
}
"""By `python -m tests.bench.bench_merging`, on one core of an Intel Xeon of 2023 with AMX."""


@pytest.mark.parametrize("case", MEASURED)
def test_the_plan_is_near_what_a_pod_took(case: tuple[str, str, tuple[str, ...]]):
    """On one core: time within a factor of two, without the start of the container; memory never below."""
    size, method, exports = case
    seconds, kept = MEASURED[case]
    plan = planned(size, method, cpus=1, exports=exports)

    assert 0.5 <= (plan.seconds - CONTAINER_SECONDS) / seconds <= 2
    assert kept <= plan.memory_gib
