"""The planner against what others have run: NVIDIA's validated sizes, measured runs, and claims that cannot be true."""

from typing import Any

import pytest
from finetune_operator.errors import DoesNotFit
from finetune_operator.planning.models.architecture import architecture
from finetune_operator.planning.search import Question, search

from tests.unit.planning.planning_builders import LLAMA_8B, LLAMA_70B, a_pool, a_preflight, a_spec
from tests.unit.planning.test_planner import planned

LLAMA_1B = {
    **LLAMA_8B, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
    "tie_word_embeddings": True,
}  # fmt: skip
LLAMA_3B = {
    **LLAMA_8B, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24,
    "tie_word_embeddings": True,
}  # fmt: skip
PHI_4 = {
    **LLAMA_8B, "model_type": "phi3", "vocab_size": 100352, "hidden_size": 5120, "intermediate_size": 17920,
    "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 10, "max_position_embeddings": 16384,
}  # fmt: skip
MODELS = {"1B": LLAMA_1B, "3B": LLAMA_3B, "8B": LLAMA_8B, "14B": PHI_4, "70B": LLAMA_70B}
A100 = {"gpuType": "NVIDIA-A100-SXM4-80GB"}
L40S = {"gpuType": "NVIDIA-L40S"}


def fewest_gpus(model: str, method: Any, gpu: dict[str, str], *, length: int = 4096, offload: bool = False) -> int:
    """Return the least GPUs that a method fits on at a length, without packing; 0: none."""
    shape = architecture(MODELS[model])
    question = Question(
        spec=a_spec(training={"packing": "never", "sequenceLength": length, "globalBatchSize": 64}),
        architecture=shape,
        preflight=a_preflight(model_bytes=2 * shape.num_parameters, sequence_length=length),
        pools=[a_pool(maxNodes=4, **gpu)],
    )
    fitting = search(question, method).fitting
    allowed = [one.layout.gpus for one in fitting if offload or one.layout.rung.offload == "none"]
    return min(allowed, default=0)


@pytest.mark.parametrize(
    ("model", "method", "gpu", "validated", "ours"),
    [
        ("1B", "lora", A100, 1, 1),
        ("1B", "full", A100, 1, 1),
        ("3B", "lora", A100, 1, 1),
        ("8B", "lora", A100, 1, 1),
        ("8B", "full", A100, 8, 4),  # theirs keeps tensor-parallel groups of 4; ZeRO shards the states over all
        ("14B", "lora", A100, 1, 1),
        ("70B", "lora", A100, 4, 4),
        ("1B", "lora", L40S, 1, 1),
        ("1B", "full", L40S, 1, 1),
        ("3B", "lora", L40S, 1, 1),
        ("8B", "lora", L40S, 2, 1),  # theirs is validated on two; one L40S has 44 GiB and we need 24
        ("14B", "lora", L40S, 2, 1),
        ("70B", "lora", L40S, 8, 8),
    ],
)
def test_validated_sizes_of_nemo_customizer(model: str, method: Any, gpu: dict[str, str], validated: int, ours: int):
    """Sequence 4,096, micro batch 1. What NVIDIA validated must fit here; we may need less."""
    assert fewest_gpus(model, method, gpu) == ours <= validated


@pytest.mark.parametrize(
    ("model", "method", "gpu", "length", "gpus"),
    [
        ("70B", "qlora", A100, 4096, 1),  # IBM: Llama-2-70B, one A100 80 GB
        ("70B", "lora", A100, 8192, 4),  # Qwen: 72B LoRA under ZeRO-3 on four A100, up to 8,192 tokens
        ("70B", "full", A100, 8192, 32),  # xtuner: Llama-2-70B, ZeRO-3, 32 A100
    ],
)
def test_measured_runs_of_70b_fit(model: str, method: Any, gpu: dict[str, str], length: int, gpus: int):
    """What has been run must be plannable on as many GPUs."""
    assert 0 < fewest_gpus(model, method, gpu, length=length) <= gpus


def test_full_70b_needs_more_than_eight_cards():
    """8 x 80 GB cannot hold 16 bytes per parameter: 960 GB or 8 cards, as guides say, are both wrong."""
    assert fewest_gpus("70B", "full", A100) > 8


def test_lora_70b_does_not_fit_two_cards():
    """141 GB of 16-bit weights leave nothing for the rest of two 80 GB cards."""
    assert fewest_gpus("70B", "lora", A100) == 4


def test_qlora_70b_does_not_fit_a_24_gib_card():
    """33 GiB of 4-bit weights and 4 GiB of embeddings: claims of one 24 GB card are impossible."""
    card = a_pool("l4", gpuType="NVIDIA-L4", memoryGiB="22.03", gpusPerNode=1, maxNodes=1)
    with pytest.raises(
        DoesNotFit, match=r"qlora on 1 x L4 needs [45]\d\.\d GiB per GPU including the margin, but L4 has 22\.0"
    ):
        planned("70b", card, method="qlora")


def test_lora_70b_takes_the_measured_gpu_hours():
    """22.5M tokens on eight H100: 5.7 GPU-hours with fused kernels and tensor parallelism (NeMo Automodel, 1,092 tokens/s and
    GPU), 11.1 with transformers, DeepSpeed and evaluations (MLPerf's reference code, 565). Guides say 1.3 to 14."""
    run = planned("70b", a_pool(), method="lora", resources={"gpus": 8}).plan
    training_gpu_hours = run.steps * run.tokens_per_step / float(run.estimate.tokens_per_second) * 8 / 3600

    assert 5.7 < training_gpu_hours * 22.5e6 / (run.steps * run.tokens_per_step) < 11.1
