"""A full fine-tune at ZeRO stage 2, bucket by bucket, against counts by hand; and the masks of layers that see a window."""

from dataclasses import replace

from finetune_operator.planning.memory.activations import mask_bytes, norm_bytes
from finetune_operator.planning.memory.backward import backward_bytes, passing_experts_bytes
from finetune_operator.planning.memory.constants import DEFAULT
from finetune_operator.planning.memory.our_trainer import TrainerLayout, scenario_for
from finetune_operator.planning.memory.scenario import MemoryScenario
from finetune_operator.planning.memory.states import gradient_norm_bytes, step_bytes, touched_parameters
from finetune_operator.planning.memory.zero2 import flushes, keeps
from finetune_operator.planning.models.architecture import architecture, sliding_layers

from tests.simulated.models import MODELS

HIDDEN, MLP, VOCABULARY = 4096, 14336, 32768
TABLE, UP = VOCABULARY * HIDDEN, HIDDEN * MLP


def full(model: str = "mistral-7b", **changes: object) -> MemoryScenario:
    """A full fine-tune of the short form of a model on two GPUs at stage 2."""
    layout = {"method": "full", "adapter": None, "gpus": 2, "zero_stage": 2, "sequence_length": 2048} | changes
    return scenario_for(architecture(MODELS[model].config(2)), TrainerLayout(**layout))  # type: ignore[arg-type]


def test_a_bucket_is_averaged_when_a_gradient_does_not_fit_it():
    """Head, last norm, a layer and two matrices of the next fit 5e8 elements; the rest waits for the end with the embedding."""
    s = full()
    layer = s.shape.num_linear_parameters // 2
    first, second = list(flushes(s, layer=0.0))[:2]

    assert first.elements == TABLE + HIDDEN + layer + 2 * UP
    assert (first.arrived.elements, first.arrived.layer) == (UP, 1)
    assert second.elements == layer - 2 * UP + TABLE


def test_a_gradient_larger_than_a_bucket_is_averaged_as_it_was_made():
    """Stacked gate and up of Mixtral: 939,524,096 elements, averaged when attention's first gradient arrives."""
    stacked = 8 * 2 * UP
    found = next(flush for flush in flushes(full("mixtral-8x7b"), layer=0.0) if flush.elements == stacked)

    assert found.uncopied == stacked
    assert found.copied(share=stacked) == 0, "a single gradient of one GPU lies end to end already"
    assert found.copied(share=stacked - 1) == stacked


def test_experts_gradients_pass_where_they_are_added():
    """As the last matrix of a layer goes backward: its gradient, the product's, and those of what it put out."""
    s = full("mixtral-8x7b", gpus=1, zero_stage=0, accumulates=True, sequence_length=16384)
    last = 2 * 8 * UP

    assert passing_experts_bytes(s) == last + 16384 * 2 * (2 * MLP + 2 * HIDDEN + HIDDEN)
    assert backward_bytes(s, DEFAULT) == passing_experts_bytes(s)


def test_the_first_shard_is_kept_from_when_something_of_it_is_averaged():
    """Of two GPUs the first has half of five norms: that of the second layer's input is in it, and comes with that layer."""
    s = full()
    second_layer = TABLE + s.shape.num_linear_parameters // 2

    assert not keeps(s, second_layer - 1)
    assert keeps(s, second_layer)
    assert not keeps(full(gpus=8), s.shape.num_parameters - TABLE - 1), "an eighth is the first norm alone"


def test_whole_matrices_are_kept():
    """Of eight shards of Mixtral the first ends inside the first layer's gate and up."""
    shape = full("mixtral-8x7b").shape
    attention = shape.num_linear_parameters // 2 - shape.num_expert_parameters // 2

    assert touched_parameters(shape, 8) == 32000 * HIDDEN + attention + 8 * 2 * UP


def test_the_norm_of_a_gradient_is_taken_in_float64():
    """8 bytes for each element of the largest that the shard has: more than its copies where that is the embedding."""
    s = full()
    share = s.shape.num_parameters / 2
    wide = replace(s.shape, vocab_size=10 * VOCABULARY)

    assert gradient_norm_bytes(s.shape, share) == 8 * TABLE
    assert gradient_norm_bytes(wide, share) == 8 * share
    assert step_bytes(s) == 6 * share


def test_gemma_scales_its_norms_in_float32():
    """A trained scale keeps a second float32 copy of what it scales: four norms over 1152, one over queries, one over keys."""
    normed = 4 * 1152 + 4 * 256 + 256

    assert norm_bytes(full("gemma-3-1b")) == (4 + 4) * normed


def test_layers_that_see_a_window_have_masks_of_their_own():
    """Five of six layers of Gemma 3 see 512 tokens: one long row needs masks there, a padded batch two kinds."""
    gemma = architecture(MODELS["gemma-3-1b"].config(6))
    layout = TrainerLayout(method="full", adapter=None, sequence_length=1024)
    pairs = 1024 * 1024

    assert sliding_layers(gemma) == (5, 512)
    assert mask_bytes(scenario_for(gemma, layout)) == (1 + 2) * pairs
    assert mask_bytes(scenario_for(gemma, replace(layout, activation_checkpointing=False))) == 5 * 2 * pairs
    assert mask_bytes(scenario_for(gemma, replace(layout, micro_batch_size=2))) == (2 + 2) * 2 * pairs
    assert mask_bytes(scenario_for(gemma, replace(layout, sequence_length=511))) == 0
