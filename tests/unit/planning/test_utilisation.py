"""Model FLOP utilisation: what a trained token needs, by hand, and where there is no peak to compare with."""

import pytest
from finetune_operator.planning.models.architecture import architecture
from finetune_operator.planning.models.catalogue import catalogue_entry, model_named
from finetune_operator.planning.planner import plan
from finetune_operator.planning.search import Question, work_of
from finetune_operator.planning.speed.utilisation import flops_per_token, peak_tflops, utilisation

from tests.unit.planning.planning_builders import LLAMA_8B, a_laptop, a_pool, a_preflight, a_spec, a_tiny_preflight

TABLE = 128_256 * 4096
MULTIPLIED = 8_030_261_248 - TABLE
"""Weights of Llama 3.1 8B less its untied input embedding, which is looked up."""
ADAPTER = 41_943_040
"""LoRA of rank 16 on all linear layers."""


def flops(method: str = "full", *, model: str = "meta-llama/Llama-3.1-8B", **training: object) -> int:
    """Return the operations of a token of rows of 1,500 tokens on average."""
    shape = model_named(model)
    assert shape is not None
    question = Question(
        spec=a_spec(method=method, training=training), architecture=shape, preflight=a_preflight(), pools=[a_pool()]
    )
    return flops_per_token(work_of(question, method))  # type: ignore[arg-type]


def test_full_fine_tuning_needs_six_operations_per_weight_and_causal_attention():
    """PaLM's 6N + 12LHQT, halved because a token sees half of the row on average: 32 layers, 32 heads of 128."""
    assert flops() == 6 * MULTIPLIED + 12 * 32 * 32 * 128 * 1500 // 2


def test_frozen_weights_need_no_gradients():
    """2N forward and 2N for the activations' gradients; the adapter's own weights need all six."""
    attention = 12 * 32 * 32 * 128 * 1500 // 2

    assert flops("lora") == 4 * MULTIPLIED + 6 * ADAPTER + attention
    assert flops("qlora") == flops("lora")


def test_packing_does_not_lengthen_what_attention_sees():
    """Packed rows are masked from each other, so the needed pairs are those of the rows, whatever the kernel computes."""
    assert flops(packing="always") == flops(packing="never")


def test_a_mixture_needs_its_active_experts_only():
    """Mixtral 8x7B: 12.9 of 46.7 billion parameters are active, 131 million of them looked up."""
    attention = 12 * 32 * 32 * 128 * 1500 // 2

    assert flops(model="mistralai/Mixtral-8x7B-v0.1") == 6 * (12_879_925_248 - 32_000 * 4096) + attention


def test_a_window_bounds_what_a_layer_sees():
    """Gemma 2 2B, rows of 8,192: half of its 26 layers see 4,096 tokens, 3,072 of them on average."""
    gemma = catalogue_entry("google/gemma-2-2b")
    assert gemma is not None
    shape = architecture(gemma.config | {"sliding_window": 4096})
    rows = a_preflight(tokens=8192 * 100, examples=100, packed_rows=100, sequence_length=8192, tokens_p99=8192)
    question = Question(
        spec=a_spec(method="full", training={"packing": "never"}), architecture=shape, preflight=rows, pools=[a_pool()]
    )
    seen = 13 * 4096 + 13 * 3072

    assert flops_per_token(work_of(question, "full")) == 6 * 2_614_341_888 + 3 * 2 * seen * (2 * 8 * 256)


def test_linear_attention_has_no_scores():
    """Qwen3.5 9B: 8 of 32 layers have full attention with 16 heads of 256; the others have no term that grows with the row."""
    shape = model_named("Qwen/Qwen3.5-9B")
    assert shape is not None
    rows = {tokens: a_preflight(tokens=tokens * 100, examples=100, packed_rows=100) for tokens in (1000, 2000)}
    needed = {
        tokens: flops_per_token(
            work_of(Question(spec=a_spec(method="full"), architecture=shape, preflight=found, pools=[a_pool()]), "full")
        )
        for tokens, found in rows.items()
    }

    assert needed[2000] - needed[1000] == 12 * 8 * 16 * 256 * 1000 // 2


def test_latent_attention_has_wider_queries_than_values():
    """DeepSeek V3: 61 layers of 128 heads, queries of 128 + 64 columns, values of 128."""
    grown = 3 * 2 * 750 * 61 * 128 * (192 + 128)
    shape = model_named("deepseek-ai/DeepSeek-V3")
    assert shape is not None

    assert flops(model="deepseek-ai/DeepSeek-V3") == 6 * (shape.num_active_parameters - 129_280 * 7168) + grown


def test_utilisation_is_the_share_of_the_nominal_peak():
    """9,600 tokens per second and GPU of 46.2 GFLOP are 44.8 % of an H100's 989 TFLOP/s."""
    assert utilisation(8 * 9600, flops(), gpus=8, peak=989) == pytest.approx(0.44854, abs=1e-5)


def test_a_plan_on_a_gpu_has_a_prediction_and_one_on_a_cpu_has_none():
    """Nobody knows the peak of a laptop's CPU, and an invented share would look measured."""
    shape = architecture(LLAMA_8B)
    fast = plan(a_spec(method="full"), architecture=shape, preflight=a_preflight(), pools=[a_pool()], image="").plan
    speed = float(fast.estimate.tokens_per_second)
    share = speed * fast.flops_per_token / (fast.replicas * fast.gpus_per_replica * 989e12)

    assert (fast.peak_tflops_per_gpu, fast.estimate.model_flop_utilisation) == ("989", f"{share:.3f}")

    small = model_named("HuggingFaceTB/SmolLM2-135M")
    assert small is not None
    slow = plan(a_spec(), architecture=small, preflight=a_tiny_preflight(), pools=[a_laptop()], image="").plan
    assert (slow.peak_tflops_per_gpu, slow.estimate.model_flop_utilisation) == (None, None)


def test_a_slice_of_a_card_has_its_share_of_the_peak():
    """A MIG slice of 40 of 80 GB can compute half; a GPU that the catalogue lacks has no peak."""
    half = a_pool(resourceName="nvidia.com/mig-3g.40gb", memoryGiB="39.55").spec
    unknown = a_pool(gpuType="NVIDIA-RTX-9090", memoryGiB="48").spec

    assert (peak_tflops(half), peak_tflops(unknown)) == (494.5, None)
