"""The moments of a training step that can be its peak, one function each.

Called by estimate. The loss is made (everything saved, and the logits), then layers go backward from the last to the first,
then the optimizer steps. At ZeRO stage 2 a full fine-tune averages buckets meanwhile: zero2 has those moments.
"""

from collections.abc import Iterator

from finetune_operator.planning.memory.activations import (
    final_norm_bytes,
    fused_head_bytes,
    logits_bytes,
    mask_bytes,
    mlp_bytes,
)
from finetune_operator.planning.memory.backward import attention_backward_bytes, dora_bytes, scattered_bytes
from finetune_operator.planning.memory.buckets import flattened_bytes
from finetune_operator.planning.memory.gathers import LIVE_PARAMETERS
from finetune_operator.planning.memory.moment import Moment
from finetune_operator.planning.memory.scenario import MemoryScenario
from finetune_operator.planning.memory.states import step_bytes, trained_bytes
from finetune_operator.planning.memory.step_memory import StepMemory
from finetune_operator.planning.memory.zero2 import averaging_moments

KEPT = ("zero3", "ddp")
"""Shardings whose buffers outlive the backward pass."""


def moments(step: StepMemory) -> Iterator[Moment]:
    """Yield the moments that can be the peak. Of equals the first is named."""
    s = step.s
    yield at_loss(step)
    yield at_final_norm(step)
    yield at_last_layer(step)
    yield at_last_dora_norm(step)
    yield at_first_gradient(step)
    yield at_last_attention(step)
    yield at_optimizer_step(step)
    if s.sharding == "zero2" and s.adapter is None:
        yield from averaging_moments(step)
    else:
        yield at_first_layer(step)
        yield at_embedding(step)
    if step.gathers.experts:
        yield at_arrival_of_experts(step)


def at_loss(step: StepMemory) -> Moment:
    """Return the start of backward: everything saved, and the loss over the vocabulary."""
    return Moment(
        phase="loss",
        gradients=step.first_gradients + fused_head_bytes(step.s),
        activations=step.saved_at_loss,
        logits=logits_bytes(step.s, step.constants),
        optimizer=step.optimizer,
        gathers=step.gathers.loss + step.first_buckets,
    )


def at_final_norm(step: StepMemory) -> Moment:
    """Return the norm before the head going backward, when the loss is over and no layer has begun."""
    return Moment(
        phase="loss",
        gradients=step.first_gradients,
        activations=step.saved_at_loss + final_norm_bytes(step.s),
        optimizer=step.optimizer,
        gathers=step.gathers.loss + step.first_buckets,
    )


def at_last_layer(step: StepMemory) -> Moment:
    """Return the last layer, the first to go backward, at its widest: nothing of the others has been freed."""
    return Moment(
        phase="loss",
        gradients=step.first_gradients,
        activations=step.saved_at_layers + step.last_layer + waiting_bytes(step.s),
        optimizer=step.optimizer,
        gathers=step.gathers.last_layer + step.last_layer_buckets,
    )


def at_last_dora_norm(step: StepMemory) -> Moment:
    """Return the last layer's forward pass where DoRA takes the norm of a matrix."""
    return Moment(
        phase="loss",
        gradients=step.first_gradients,
        activations=step.saved + dora_bytes(step.s),
        optimizer=step.optimizer,
        gathers=step.gathers.last_layer + step.first_buckets,
    )


def at_first_gradient(step: StepMemory) -> Moment:
    """Return the last layer as its first gradient is there, and the buckets; one layer is freed where its MLP is done."""
    freed = step.saved / step.s.shape.num_layers if step.mlp_before_gradients else 0.0
    return Moment(
        phase="loss",
        gradients=step.first_gradients,
        activations=step.saved_at_layers - freed + step.last_layer,
        optimizer=step.optimizer,
        gathers=step.gathers.last_layer + step.buckets,
    )


def at_last_attention(step: StepMemory) -> Moment:
    """Return the last layer's attention going backward, after its MLP."""
    return Moment(
        phase="loss",
        gradients=step.first_gradients,
        activations=step.saved_at_layers + step.last_layer - step.backward + attention_backward_bytes(step.s),
        optimizer=step.optimizer,
        gathers=step.gathers.last_layer + step.buckets,
    )


def at_optimizer_step(step: StepMemory) -> Moment:
    """Return the optimizer's step: no activation is left."""
    return Moment(
        phase="step",
        gradients=step.gradients,
        activations=0.0,
        optimizer=step.optimizer + step_bytes(step.s),
        gathers=step.buckets if step.s.sharding in KEPT else 0.0,
    )


def at_first_layer(step: StepMemory) -> Moment:
    """Return the first layer, the last to go backward, beside all gradients."""
    return Moment(
        phase="backward",
        gradients=step.gradients,
        activations=max(first_layer_bytes(step.s, step.recomputed), flattened_bytes(step.s)),
        optimizer=step.optimizer,
        gathers=step.gathers.first_layer + step.buckets,
    )


def at_embedding(step: StepMemory) -> Moment:
    """Return the embedding's turn, after all layers."""
    return Moment(
        phase="backward",
        gradients=step.gradients,
        activations=0.0,
        optimizer=step.optimizer,
        gathers=step.gathers.embedding + step.buckets,
    )


def at_arrival_of_experts(step: StepMemory) -> Moment:
    """Return stage 3's arrival of the last layer's stacked experts, before the layer is recomputed."""
    recomputes = step.s.activation_checkpointing
    return Moment(
        phase="loss",
        gradients=step.first_gradients,
        activations=step.saved if recomputes else saved_with_experts(step.s, step.saved),
        optimizer=step.optimizer,
        gathers=step.gathers.experts + step.last_layer_buckets,
    )


def saved_with_experts(s: MemoryScenario, saved: float) -> float:
    """Return what layers have saved when the last one's experts have arrived in buffers that are still there.

    Where there is room to fetch ahead the buffers outlive the layer, whose results go back to their tokens; else what the
    last layer's MLP saves is not there yet.
    """
    head_and_layer = s.shape.num_table_parameters + s.shape.num_layer_parameters
    if head_and_layer < LIVE_PARAMETERS:
        return saved + scattered_bytes(s)
    return saved - s.tokens * mlp_bytes(s)


def waiting_bytes(s: MemoryScenario) -> float:
    """Return gradients that wait while layers go backward.

    One layer's stacked experts are one tensor, which stage 3 shares out only when it is complete; and a head that is the
    embedding too waits for the embedding's part, in autograd's buffer.
    """
    if s.adapter is not None or s.optimizer_in_backward:
        return 0.0
    experts = 2.0 * s.shape.num_expert_parameters / s.shape.num_layers if s.sharding == "zero3" else 0.0
    return experts + (trained_bytes(s).gradient * s.shape.num_table_parameters if s.shape.tied else 0.0)


def first_layer_bytes(s: MemoryScenario, working: float) -> float:
    """Return what the first layer, the last to go backward, needs beyond all gradients.

    The gradient of the embedding comes after it; where head and embedding are one, it and the sum of both join the first.
    """
    if s.adapter is not None or s.optimizer_in_backward:
        return working + mask_bytes(s, 1)
    embedding = trained_bytes(s).gradient * s.shape.num_table_parameters
    if s.state_shards > 1:
        return max(working + mask_bytes(s, 1), (3 if s.shape.tied else 1) * embedding)
    # All gradients are there already where they accumulate: those of this micro step come beside them.
    new = embedding if s.accumulates else 0.0
    layer = working + mask_bytes(s, 1) + new - (0.0 if s.accumulates else later_gradient_bytes(s))
    end = new + 4.0 * s.tokens * s.shape.hidden_size
    return max(2 * embedding + end, layer) if s.shape.tied else max(end, layer - embedding)


def later_gradient_bytes(s: MemoryScenario) -> float:
    """Return the gradients of one layer that are not there at its widest moment, the MLP's: all but the last matrix's."""
    shape = s.shape
    dense = (shape.num_linear_parameters - shape.num_expert_parameters) // shape.num_layers
    last = 0 if shape.num_expert_parameters else shape.hidden_size * shape.mlp_width
    return trained_bytes(s).gradient * max(0, dense - last)
