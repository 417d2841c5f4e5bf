"""Fields of a scenario that few readings have: each does what its library does, and none is ignored."""

from dataclasses import replace

import pytest
from finetune_operator.planning.memory.activations import fused_head_bytes, keeps_frozen_inputs, logits_bytes
from finetune_operator.planning.memory.constants import DEFAULT, GIB
from finetune_operator.planning.memory.gathers import gathered
from finetune_operator.planning.memory.states import gradient_bytes, wide_moments_bytes

from tests.unit.planning.framework_builders import FULL, LINEAR, LORA, TABLE, memory, scenario


def test_adalora_keeps_scores_of_its_parameters():
    """Sensitivity, its mean and its spread, each as large as the adapter (peft RankAllocator.update_ipt)."""
    plain, pruned = memory(), memory(loraVariant="adalora")
    parameters = 32 * 2 * 8 * (4096 + 4096)

    assert pruned.adapter_gib - plain.adapter_gib == pytest.approx(3 * 4 * parameters / GIB)
    assert scenario(loraVariant="rslora").adapter == scenario().adapter


@pytest.mark.parametrize("kernel", ["liger", "cce"])
def test_a_fused_loss_makes_the_gradient_of_a_trained_head_at_once(kernel):
    """zeros_like(weight) in Liger's forward pass: as wide as the head, and FSDP's copy of it is 16 bit."""
    masters = FULL | {"weightsDtype": "float32", "lossKernel": kernel}

    assert fused_head_bytes(scenario(**FULL, lossKernel=kernel)) == 2 * TABLE
    assert fused_head_bytes(scenario(**masters)) == 4 * TABLE
    assert fused_head_bytes(scenario(**masters | {"sharding": "fsdp", "numGpus": 2})) == 2 * TABLE
    assert fused_head_bytes(scenario(lossKernel=kernel)) == fused_head_bytes(scenario(**FULL)) == 0


def test_an_embedding_trained_beside_an_adapter_has_float32_moments_too():
    """transformers' Trainer asks bitsandbytes for 32 bit wherever it finds an embedding, copies of PEFT's included."""
    eight = {"optimizer": "adamw-8bit"}

    assert wide_moments_bytes(scenario(**eight, trainsEmbeddings=True)) == wide_moments_bytes(scenario(**FULL, **eight))
    assert wide_moments_bytes(scenario(**eight, trainsEmbeddings=True)) == (8 - 2 * (1 + 4 / 256)) * TABLE
    assert wide_moments_bytes(scenario(**eight)) == wide_moments_bytes(scenario(trainsEmbeddings=True)) == 0


def test_steps_inside_the_backward_pass_leave_a_gradient_as_wide_as_the_weights():
    """The vocabulary's outlives its layer: 2 bytes an entry, 4 where weights are float32."""
    inside = FULL | {"optimizerInBackward": True}

    assert gradient_bytes(scenario(**inside)) == 2 * TABLE
    assert gradient_bytes(scenario(**inside | {"weightsDtype": "float32"})) == 4 * TABLE


def test_deepspeed_computes_in_16_bit_whatever_the_masters():
    """Its engine casts the model; masters belong to the optimizer."""
    stage3 = FULL | {"sharding": "zero3", "numGpus": 4}

    assert memory(**stage3 | {"weightsDtype": "float32"}) == memory(**stage3)


@pytest.mark.parametrize(
    ("name", "extra_norms", "capped", "head_norms", "float32_scales"),
    [
        ("gemma-2b", 0, False, False, True),
        ("google/Gemma-2-9b", 2, True, False, True),
        ("gemma-3-12b", 2, False, True, True),
        ("Qwen/Qwen3-8B", 0, False, True, False),
        ("qwen2.5-7b", 0, False, False, False),
        ("olmo-2-7b", 0, False, True, False),
    ],
)
def test_a_name_tells_what_widths_do_not(name, extra_norms, capped, head_norms, float32_scales):
    """Norms beyond two a layer, capped scores, norms of queries and keys, scales applied in float32."""
    shape = scenario(model=dict(LORA["model"], name=name)).shape  # type: ignore[call-overload]

    assert (shape.extra_norms, shape.capped_scores) == (extra_norms, capped)
    assert (shape.qk_norm, shape.float32_scales) == (head_norms, float32_scales)


def test_capped_logits_keep_what_their_tanh_put_out():
    """Gemma 2: two bytes more per entry, where the loss's kernel does not cap inside."""
    entries, gemma = 2048 * 32_000, {"model": dict(LORA["model"], name="gemma-2-7b")}  # type: ignore[call-overload]

    def extra(kernel: str) -> float:
        capped, plain = scenario(**gemma, lossKernel=kernel), scenario(lossKernel=kernel)
        return logits_bytes(capped, DEFAULT) - logits_bytes(plain, DEFAULT)

    assert extra("stock") == extra("litgpt") == 2 * entries
    assert extra("liger") == extra("cce") == extra("tiled") == 0


WIDE = replace(
    scenario().shape,
    vocab_size=128_256,
    num_parameters=LINEAR + 2 * 128_256 * 4096,
    num_embedding_parameters=2 * 128_256 * 4096,
)
SHARDED = {"method": "qlora", "quantization": "nf4", "adapterDtype": "bfloat16", "sharding": "zero3", "numGpus": 8}


@pytest.mark.parametrize("sharding", ["zero3", "fsdp"])
def test_scales_of_4_bit_weights_are_on_every_gpu(sharding):
    """They are attributes of bitsandbytes' layers, not parameters: one float32 per 64 weights, or an eighth of that and a bit."""
    tables, single, double = 2 * 2 * TABLE / 8, 1 / 16, 1 / 64 + 1 / 4096
    found = [
        memory(**SHARDED | {"quantization": quantization, "sharding": sharding}).weights_gib
        for quantization in ("nf4", "nf4-double")
    ]

    assert found == [pytest.approx((LINEAR * (0.5 / 8 + scales) + tables) / GIB) for scales in (single, double)]


def test_stage_3_gathers_4_bit_weights_as_they_are_stored():
    """Two bits of a 16-bit element each; without checkpointing bitsandbytes' product keeps all until backward."""
    checkpointed = gathered(scenario(**SHARDED, lossKernel="tiled"))
    stored = gathered(scenario(**SHARDED, lossKernel="tiled", activationCheckpointing=False))

    assert checkpointed.embedding == 2 * 2 * TABLE
    # At last the first layer, the head, and the embedding twice: it came in one buffer with the layer's last matrix.
    assert gathered(replace(scenario(**SHARDED, lossKernel="tiled"), shape=WIDE)).first_layer == pytest.approx(
        2 * (3 * 128_256 * 4096 + LINEAR / 4 / 32), rel=1e-4
    )
    assert 2 * TABLE < checkpointed.loss <= 2 * 1e9
    assert stored.loss == 2 * TABLE + 0.5 * LINEAR


def test_4_bit_matrices_do_not_keep_their_inputs_at_stage_3():
    """DeepSpeed replaces torch's linear function, which bitsandbytes' layers do not call."""
    sixteen = {"sharding": "zero3", "numGpus": 8, "adapterDtype": "bfloat16"}

    assert keeps_frozen_inputs(scenario(**sixteen))
    assert not keeps_frozen_inputs(scenario(**SHARDED))
