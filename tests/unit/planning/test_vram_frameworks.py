"""Memory of stacks that are not ours, as scenarios describe them: each term against what its library's code allocates."""

from dataclasses import replace

import pytest
from finetune_operator.planning.memory.activations import (
    boundary_bytes,
    final_norm_bytes,
    input_bytes,
    layer_bytes,
    logits_bytes,
    mask_bytes,
    ungraded_bytes,
)
from finetune_operator.planning.memory.backward import (
    backward_bytes,
    dora_bytes,
    gathered_back_bytes,
    late_gradient_bytes,
    scattered_bytes,
)
from finetune_operator.planning.memory.constants import DEFAULT, GIB
from finetune_operator.planning.memory.dora import norm_matrix_bytes, norm_peak_bytes
from finetune_operator.planning.memory.estimate import estimate
from finetune_operator.planning.memory.states import (
    largest_subgroup,
    saved_module_bytes,
    step_bytes,
)
from finetune_operator.planning.memory.step_moments import waiting_bytes

from tests.unit.planning.framework_builders import FULL, LINEAR, LORA, TABLE, memory, scenario


def test_eager_attention_keeps_six_bytes_per_pair_of_tokens_and_head():
    """Softmax in float32 and its 16-bit copy (transformers' eager_attention_forward); Gemma 2's tanh keeps two more."""
    pairs = 2048 * 2048 * 32
    capped = dict(LORA["model"], name="gemma-2-7b")  # type: ignore[call-overload]

    eager, flash = scenario(attention="eager"), scenario()

    assert layer_bytes(eager, DEFAULT) - layer_bytes(flash, DEFAULT) == 6 * pairs
    assert layer_bytes(scenario(attention="eager", model=capped), DEFAULT) - layer_bytes(
        scenario(model=capped), DEFAULT
    ) == pytest.approx(8 * pairs)


def test_softmax_goes_backward_after_the_mlp_is_gone():
    """Six bytes a pair, less what MLP, second norm, output and values had saved, and row sums; the residual's gradient is there."""
    gone = 6 * 11008 + 4 * 4096 + 2 * 4096 + 4 * 32 - 2 * 4096
    adapted = 2 * (4096 + 2 * 4096 + 11008)  # inputs of the matrices after the scores

    assert backward_bytes(scenario(attention="eager"), DEFAULT) == 2048 * (6 * 2048 * 32 - gone)
    assert backward_bytes(
        scenario(attention="eager", loraTargets=["q", "k", "v", "o", "gate", "up", "down"]), DEFAULT
    ) == 2048 * (6 * 2048 * 32 - gone - adapted)


def test_eager_attention_adds_a_mask_that_recomputed_layers_need_again():
    """As wide as the residual stream; one more for layers that see a window (transformers' eager_mask)."""
    pairs, eager = 2048 * 2048, scenario(attention="eager")
    windows = replace(eager, shape=replace(eager.shape, sliding_layers=16))

    assert mask_bytes(eager) == 2 * pairs
    assert mask_bytes(windows) == 2 * 2 * pairs
    assert mask_bytes(replace(windows, float32_residual=True)) == 2 * 4 * pairs
    assert mask_bytes(scenario(attention="eager", activationCheckpointing=False)) == 0


def test_a_norm_at_the_end_of_a_layer_goes_backward_in_float32():
    """Gemma: five such gradients, and the one that arrived, beside all that the layer saved."""
    plain = scenario(microBatchSize=8, attention="eager", sequenceLength=64, activationCheckpointing=True)
    wide = replace(plain, shape=replace(plain.shape, mlp_width=4096, backward_width=4096, widest_mlp=4096))
    gemma = replace(wide, shape=replace(wide.shape, extra_norms=2))

    assert backward_bytes(wide, DEFAULT) < backward_bytes(gemma, DEFAULT) == 22 * 8 * 64 * 4096


def test_the_first_layer_saves_less_as_its_input_has_no_gradient():
    """Adapters: neither the first norm nor masks of dropout before queries and values; checkpointing asks for that gradient."""
    stored = {"activationCheckpointing": False}

    assert ungraded_bytes(scenario(**stored)) == 4 * 4096 * 2048
    assert ungraded_bytes(scenario(**stored, loraDropout=True)) == (4 + 2) * 4096 * 2048
    assert ungraded_bytes(scenario()) == ungraded_bytes(scenario(**stored | FULL)) == 0
    assert ungraded_bytes(scenario(**stored, trainsEmbeddings=True)) == 0


def test_the_norm_before_the_head_goes_backward_before_any_layer():
    """Its float32 input and five float32 gradients beside all that was saved, where no logits were more than that."""
    tiled = scenario(activationCheckpointing=False, lossKernel="tiled", sequenceLength=8192)
    saved = layer_bytes(tiled, DEFAULT) * 32 - ungraded_bytes(tiled)

    assert final_norm_bytes(tiled) == 24 * 4096 * 8192 > logits_bytes(tiled, DEFAULT)
    assert estimate(tiled).activations_gib == pytest.approx((saved + final_norm_bytes(tiled)) / GIB)


def test_an_8_bit_base_is_one_byte_a_parameter():
    """Embeddings and head stay 16 bit; bitsandbytes' product keeps its input (MatMul8bitLt)."""
    eight = scenario(method="qlora", quantization="int8")

    assert estimate(eight).weights_gib == pytest.approx((LINEAR + 4 * TABLE) / GIB)
    assert input_bytes(scenario(method="qlora", quantization="int8", adapterDtype="bfloat16")) == 2 * (2 * 4096 + 11008)


def test_adafactor_steps_one_parameter_at_a_time():
    """Four float32 copies of the largest, the embedding; two where weights and gradients are float32 already."""
    assert step_bytes(scenario(**FULL, optimizer="adafactor")) == 16 * TABLE
    assert step_bytes(scenario(**FULL | {"weightsDtype": "float32"}, optimizer="adafactor")) == 8 * TABLE
    assert memory(**FULL, optimizer="adafactor").optimizer_gib == pytest.approx(
        (0.02 * (LINEAR + 2 * TABLE) + 16 * TABLE) / GIB
    )


def test_stage_3_steps_a_sub_group_with_nothing_gathered():
    """Gradients in 16 bit and float32, foreach's temporary instead where that is more; groups end with a whole matrix."""
    stage3 = FULL | {"sharding": "zero3", "numGpus": 8}
    fused, foreach = scenario(**stage3, optimizer="adamw-fused"), scenario(**stage3)
    one = scenario(**stage3 | {"numGpus": 1}).shape
    share = fused.shape.num_parameters / 8

    assert step_bytes(fused) == pytest.approx(6 * share, rel=1e-4)
    assert step_bytes(foreach) == pytest.approx(8 * share, rel=1e-4)
    assert 1e9 <= largest_subgroup(one, 1) <= 1e9 + 4096 * 11008
    assert memory(**stage3 | {"lossKernel": "tiled"}).gathers_gib == pytest.approx(1e9 / GIB)


def test_embeddings_trained_beside_an_adapter_have_masters_under_deepspeed():
    """Copy, gradient, moments and step: 10 bytes in 16 bit; 2 + (2 + 12 + 4) / n with float32 masters at stage 2."""
    assert saved_module_bytes(scenario(trainsEmbeddings=True)) == 10 * 2 * TABLE
    assert saved_module_bytes(scenario(trainsEmbeddings=True, sharding="zero2", numGpus=2)) == (2 + 18 / 2) * 2 * TABLE
    assert saved_module_bytes(scenario(trainsEmbeddings=True, sharding="zero3", numGpus=2)) == 20 / 2 * 2 * TABLE


def test_ddp_holds_gradients_twice():
    """Its buckets are a copy of all gradients, whatever the loss."""
    found = memory(**FULL | {"sharding": "ddp", "numGpus": 2})

    assert found.gathers_gib == pytest.approx(2 * (LINEAR + 2 * TABLE) / GIB)


def test_a_head_in_float32_is_cast_back_for_its_product():
    """kbit preparation: the loss holds a 16-bit copy of the head."""
    prepared, plain = scenario(residualFloat32=True), scenario()

    assert logits_bytes(prepared, DEFAULT) - logits_bytes(plain, DEFAULT) == 2 * TABLE


def test_autocast_casts_a_float32_residual_for_each_matrix_anew():
    """Masters: queries, keys, values, gate and up keep a 16-bit input each; FSDP computes in 16 bit throughout."""
    masters = FULL | {"weightsDtype": "float32"}

    assert input_bytes(scenario(**masters)) == 2 * (5 * 4096 + 11008)
    assert input_bytes(scenario(**masters | {"sharding": "fsdp", "numGpus": 2})) == 2 * (2 * 4096 + 11008)


def test_dora_takes_norms_of_whole_matrices():
    """Itself four times in float32 and the identity in 16 bit, or the identity in both where the input is wide."""
    square = scenario(loraVariant="dora").adapter
    down = scenario(loraVariant="dora", loraTargets=["q", "down"]).adapter
    assert square is not None
    assert down is not None

    assert norm_matrix_bytes(square) == 18 * 4096 * 4096
    assert norm_matrix_bytes(down) == 2 * 11008 * 11008 + 16 * 11008 * 4096
    assert norm_matrix_bytes(replace(down, normed_inputs=20_000)) == 6 * 20_000 * 20_000 + 2 * 20_000 * 4096
    assert norm_matrix_bytes(replace(square, casts_inputs=False)) == 8 * 4096 * 4096


def test_dora_on_attention_does_not_meet_the_mlp():
    """Its norms come before the MLP saves anything, so they do not add to the MLP's gradients; the last matrix's meet it all."""
    assert backward_bytes(scenario(loraVariant="dora"), DEFAULT) == backward_bytes(scenario(), DEFAULT)

    last = scenario(loraVariant="dora", loraTargets=["q", "down"])
    assert last.adapter is not None
    assert dora_bytes(last) == norm_peak_bytes(last, last.adapter)


def test_float32_masters_make_the_residual_stream_float32():
    """Autocast computes matrices in 16 bit, but what is added to a float32 embedding stays float32; FSDP casts the weights."""
    masters = replace(scenario(**FULL), float32_weights=True, autocast=True)
    inputs = 2048 * 4096 * 32

    assert boundary_bytes(masters) == 4 * inputs
    assert boundary_bytes(scenario(**FULL)) == boundary_bytes(replace(masters, sharding="fsdp")) == 2 * inputs


def test_results_of_experts_go_back_to_their_tokens():
    """Three 16-bit copies per chosen expert: read, computed and weighed; or in backward the gradient, and that put in order."""
    mixture = dict(LORA["model"], experts=8, expertsPerToken=2)  # type: ignore[call-overload]
    frozen = scenario(model=mixture)
    shape = replace(frozen.shape, routed_width=2 * 4096)

    assert scattered_bytes(replace(frozen, shape=shape)) == 2048 * (6 * 2 * 4096 + 8 * 4096)
    assert scattered_bytes(scenario()) == 0


def test_a_tied_head_waits_for_the_embedding():
    """Its gradient stays in autograd's buffer while the layers go backward."""
    untied = scenario(**FULL)
    model = dict(LORA["model"], tiedEmbeddings=True, parameters=LINEAR + TABLE)  # type: ignore[call-overload]

    assert waiting_bytes(untied) == 0
    assert waiting_bytes(scenario(**FULL, model=model)) == 2 * TABLE


def test_offloaded_activations_leave_without_checkpointing_too():
    """One layer is on the GPU at a time."""
    stored = memory(activationCheckpointing=False)
    offloaded = memory(activationCheckpointing=False, activationOffload=True)

    assert offloaded.activations_gib < stored.activations_gib / 10


def test_rows_of_changing_length_leave_blocks_of_other_lengths_behind():
    """2.3 times the logits, or 1.1 times everything else where that is more (tests/bench/replay_allocator.py)."""
    logits = memory(batching="padded-variable")
    stored = memory(batching="padded-variable", activationCheckpointing=False, lossKernel="liger")

    assert logits.slack_gib == pytest.approx(2.3 * logits.logits_gib)
    assert stored.slack_gib == pytest.approx(1.1 * stored.activations_gib)


def test_few_rows_need_the_square_of_the_longest():
    """Of eager attention's scores the blocks of other lengths are small: 0.7 times instead of 1.1."""
    found = memory(batching="padded-variable", activationCheckpointing=False, lossKernel="liger", attention="eager")
    square = 6 * 2048 * 2048 * 32 * 32 / GIB

    assert found.slack_gib == pytest.approx(1.1 * (found.activations_gib - square) + 0.7 * square)


def test_what_is_reserved_is_decided_by_the_moment_that_needs_most():
    """A full fine-tune peaks at its step, but blocks that the loss left behind are reserved then too."""
    fixed, padded = memory(**FULL, microBatchSize=10), memory(**FULL, microBatchSize=10, batching="padded-variable")

    assert (fixed.phase, padded.phase) == ("step", "step")
    assert padded.allocated_gib == fixed.allocated_gib
    assert padded.reserved_gib > fixed.reserved_gib + 1


@pytest.mark.parametrize(
    ("changes", "confidence", "words", "margin"),
    [
        ({}, "high", "", 1.1),
        ({"parameterOffload": True}, "low", "few measured runs with offload", 1.15),
        ({"method": "qlora", "quantization": "int8"}, "low", "few measured runs with an 8-bit base", 1.15),
        ({"batching": "padded-variable"}, "low", "padded rows", 1.3),
        ({"attention": "eager"}, "medium", "few measured runs without flash attention", 1.1),
        ({"objective": "orpo"}, "medium", "the preference objective", 1.1),
        ({"loraVariant": "dora"}, "medium", "DoRA", 1.1),
        (FULL | {"optimizer": "adafactor"}, "medium", "Adafactor", 1.1),
        (FULL | {"optimizer": "paged-adamw"}, "medium", "the states of a paged optimizer", 1.1),
    ],
)
def test_what_few_have_measured_is_said_and_asked_for(changes, confidence, words, margin):
    """The reason names the part of the scenario; doubt raises the margin."""
    found = memory(**changes)

    assert (found.confidence, found.margin) == (confidence, margin)
    assert found.confidence_reason.startswith(words)


def test_trained_experts_get_their_gradients_one_matrix_after_the_other():
    """The first matrix, two thirds, waits until the MLP is gone; then the gradients of gate and up and of what was gathered."""
    full = scenario(**FULL)
    shape = replace(full.shape, routed_width=2 * 4096, num_expert_parameters=32 * 3_000_000)
    mixture = replace(full, shape=shape)

    assert late_gradient_bytes(mixture) == 2 * 2_000_000
    assert gathered_back_bytes(mixture) == 2048 * (4 * 11008 + 2 * 2 * 4096 + 4 * 4096 - 8 * 11008)
    assert (late_gradient_bytes(full), gathered_back_bytes(full)) == (0, 0)
