"""What serving takes: each term by hand, and the GPUs that hold their sum."""

import pytest
from finetune_contract.served import Load
from finetune_contract.serving.sizes import gpus_for, longest_for, serving_needs
from finetune_operator.planning.models.catalogue import catalogue_entry
from finetune_operator.planning.serving import cheapest_to_serve, described, served_model

from tests.unit.planning.planning_builders import a_pool


def shape(name: str = "meta-llama/Llama-3.1-8B"):
    entry = catalogue_entry(name)
    assert entry is not None
    return served_model(entry.architecture)


def test_each_term_is_counted_by_hand():
    """Llama 3.1 8B: 32 layers of 8 heads of 128, 16 requests of 8,192 tokens, 20 adapters in slots of rank 16."""
    needs = serving_needs(shape(), Load(length=8192, concurrency=16, adapters=20, lora_rank=16))

    assert shape().kv_bytes_per_token == 2 * 32 * 8 * 128 * 2
    assert needs.kv_cache_gib == 16 * 8192 * 131_072 / 2**30
    assert needs.weights_gib == pytest.approx(2 * 8_030_261_248 / 2**30)
    assert needs.lora_gib == pytest.approx(20 * 41_943_040 * 2 / 2**30)


def test_a_slot_is_as_large_as_the_option_that_holds_the_adapter():
    """vLLM has no --max-lora-rank of 40: it reserves 64."""
    of_forty, of_sixty_four = (
        serving_needs(shape(), Load(length=1024, concurrency=1, adapters=1, lora_rank=rank)).lora_gib
        for rank in (40, 64)
    )

    assert of_forty == of_sixty_four


def test_the_fewest_gpus_that_hold_it():
    """70B in 16 bit is 131 GiB: two cards of 79 GiB at 0.9 do not hold it with a cache, four do; 8 of 24 GiB do not."""
    large, load = shape("meta-llama/Llama-3.1-70B"), Load(length=8192, concurrency=8)
    needs = serving_needs(large, load)

    assert [gpus_for(needs, large, memory) for memory in (79.1, 139.7, 22.0)] == [4, 2, None]
    assert longest_for(large, load, gpus=8, memory_gib=22.0) == 2860
    assert longest_for(large, load, gpus=2, memory_gib=22.0) == 0


def test_the_arithmetic_is_shown():
    """Terms, their sum, and what each GPU holds."""
    lines = described(
        shape(), Load(length=4096, concurrency=8, adapters=1, lora_rank=16), gpu_type="L40S", memory_gib=44.3
    )

    assert lines == (
        "weights 14.96 GiB; KV cache 4.00 GiB (128 KiB x 4,096 tokens x 8 requests); 1 LoRA slot of rank 16 0.08 GiB = 19.04 GiB",
        "1 x L40S: 21.54 of 39.87 GiB per GPU, 2.5 for the engine included",
    )


def test_the_cheapest_pool_is_the_one_whose_gpus_cost_least_together():
    """70B takes four H100 or two H200. A card that is not known, a slice of one and a node with too few are passed over."""
    priced = {"h100": "2.50", "h200": "4.00", "l40s": "0.90"}
    types = {"h100": "NVIDIA-H100-80GB-HBM3", "h200": "NVIDIA-H200", "l40s": "NVIDIA-L40S"}
    h100, h200, l40s = (a_pool(name, gpuType=types[name], pricePerGPUHourUSD=priced[name]) for name in priced)
    few = a_pool("few", gpuType="NVIDIA-H200", gpusPerNode=1, pricePerGPUHourUSD="0.10")
    unknown = a_pool("unknown", gpuType="Some-GPU", memoryGiB="100", pricePerGPUHourUSD="0.10")
    slices = a_pool("slices", resourceName="nvidia.com/mig-1g.10gb", memoryGiB="10", pricePerGPUHourUSD="0.10")
    large = shape("meta-llama/Llama-3.1-70B")

    assert cheapest_to_serve(large, (h100, h200)) == h200
    assert cheapest_to_serve(large, (few, unknown, slices, h100)) == h100
    assert cheapest_to_serve(large, (few, unknown, slices)) is None
    assert cheapest_to_serve(shape(), (h100, h200, l40s)) == l40s
