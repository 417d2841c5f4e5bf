"""What a job that merges adapters takes: the plan beside what Pods took, and how it grows with the model and the data."""

from typing import Any

import pytest
from finetune_operator.api.plan import ExportPlan
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.planning.cpu_pod import CONTAINER_SECONDS
from finetune_operator.planning.exports import export_plan
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
    ("1B", "average", ()): (113, 6.07),
    ("1B", "svd", ()): (111, 5.94),
    ("1B", "average", ("merged", "gguf-q8_0")): (216, 5.99),
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


EXPORTED = {
    ("135M", "merged"): (15.4, 1.40),
    ("1B", "merged"): (70.9, 3.81),
    ("1B", "gguf-q8_0"): (100, 4.86),
    ("1B", "gguf-q4_k_m"): (200, 4.96),
}
"""The same for a Pod that makes one form of an adapter of LoRA rank 192: CPU seconds, GiB."""


@pytest.mark.parametrize("case", EXPORTED)
def test_the_plan_of_an_export_is_near_what_a_pod_took(case: tuple[str, str]):
    """The merge is a part of each form."""
    size, form = case
    seconds, kept = EXPORTED[case]
    shape = architecture(SHAPES[size])
    plan = export_plan(
        (form,),
        architecture=shape,
        model_bytes=2 * shape.num_parameters,
        adapter_bytes=6 * ADAPTERS[size],
        mounted=True,
        cpus=1,
    )

    assert plan is not None
    assert 0.5 <= (plan.seconds - CONTAINER_SECONDS) / seconds <= 2
    assert kept <= plan.memory_gib


def test_a_model_lies_in_float32_in_the_pod():
    """8 billion parameters of 4 bytes, the adapter, and the working memory of the process; on a GPU they would be half of it."""
    small, long = planned("8B"), planned("8B", sequence_length=8192)

    assert small.memory_gib == 34
    assert (long.memory_gib - small.memory_gib) == 15  # keys and values of eight answers, in float32


def test_time_is_that_of_reading_rows_and_of_answering():
    """More rows take longer, more cores less; the start and the loading take as long on any number of cores."""
    none = planned("1B", evaluation_examples=0, generated_answers=0)
    few, many = planned("1B"), planned("1B", evaluation_examples=1000, generated_answers=1000)
    one = planned("1B", cpus=1)

    assert [plan.seconds for plan in (none, few, many, one)] == [41, 71, 2341, 198]


def test_only_pruning_makes_whole_matrices():
    """average and svd take the same; ties sorts every value of every adapter, on one core."""
    assert planned("1B", "svd") == planned("1B")
    assert planned("1B", "ties").seconds > planned("1B", "dare").seconds > 3 * planned("1B").seconds
