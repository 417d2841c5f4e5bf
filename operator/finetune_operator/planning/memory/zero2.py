"""The backward pass of a full fine-tune at ZeRO stage 2, bucket by bucket: what is there as each is averaged. Called by step_moments.

The rules are those of deepspeed/runtime/zero/stage_1_and_2.py (0.19): a gradient that does not fit the bucket any more has
it averaged first, laid end to end, and that is as the gradient arrives. One larger than a bucket stays where it was made
and is averaged as the next arrives. What the GPU's shard touches is then kept, of whole parameters, in a buffer that is
made as large as all of them when the first of them has been averaged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from finetune_operator.planning.memory.activations import mask_bytes, mlp_bytes, norm_bytes
from finetune_operator.planning.memory.buckets import DEFAULT_BUCKET
from finetune_operator.planning.memory.moment import Moment, Phase
from finetune_operator.planning.memory.scenario import MemoryScenario, Shape
from finetune_operator.planning.memory.step_memory import StepMemory


@dataclass(frozen=True, slots=True)
class Gradient:
    """One matrix's gradient as it arrives."""

    elements: int
    layer: int
    """How many layers have gone backward before."""
    left: float
    """Bytes that are there of the layer beyond all that it saved: less what has been used, and gradients on their way."""


@dataclass(frozen=True, slots=True)
class Flush:
    """A bucket that is averaged because one more gradient does not fit, or because there is none more."""

    elements: int
    gradients: int
    """How many gradients they are."""
    done: int
    """Elements that have been averaged when this is over."""
    arrived: Gradient

    def copied(self, share: float) -> int:
        """Elements that are laid end to end: a single gradient that belongs to one GPU's share of all is that already."""
        return 0 if self.gradients == 1 and self.elements <= share else self.elements

    @property
    def before(self) -> int:
        """Elements that had been averaged when this began."""
        return self.done - self.elements

    @property
    def uncopied(self) -> int:
        """Elements of a gradient that is larger than a bucket, so that it is there as it was made."""
        return self.elements if self.elements > DEFAULT_BUCKET else 0


def averaging_moments(step: StepMemory) -> Iterator[Moment]:
    """Yield the moments of the backward pass that can be its peak: whenever a bucket is averaged, and after."""
    s, found = step.s, tuple(flushes(step.s, step.layer))
    for flush in found:
        yield at_average(step, flush)
        if keeps(s, flush.done) and not keeps(s, flush.before):
            yield at_first_kept(step, flush)
            if flush.arrived.layer + 1 < s.shape.num_layers:
                yield at_next_layer(step, flush)
    yield at_first_layer(step, found)
    if s.shape.tied:
        yield at_tied_embedding(step, found)


def at_average(step: StepMemory, flush: Flush) -> Moment:
    """Return a bucket being averaged, laid end to end, as one more gradient arrives."""
    s = step.s
    kept = step.gradients if keeps(s, flush.before) else 0.0
    share = s.shape.num_parameters / s.state_shards
    return _moment(step, "loss", kept, left_bytes(step, flush) + arrived_bytes(flush) + 2.0 * flush.copied(share))


def at_first_kept(step: StepMemory, flush: Flush) -> Moment:
    """Return the buffer of what is kept, just made, before the gradient that arrived is put into a bucket."""
    return _moment(step, "loss", step.gradients, left_bytes(step, flush) + arrived_bytes(flush))


def at_next_layer(step: StepMemory, flush: Flush) -> Moment:
    """Return the next layer going backward beside that buffer."""
    s, layers = step.s, flush.arrived.layer + 1
    rest = waiting_for(s, flush.arrived) + saved_bytes(s, layers, step.layer) + step.backward
    return _moment(step, "loss", step.gradients, rest)


def at_first_layer(step: StepMemory, found: Sequence[Flush]) -> Moment:
    """Return the first layer, the last to go backward."""
    s = step.s
    averaged = s.shape.num_parameters - s.shape.num_table_parameters - s.shape.num_layer_parameters
    kept = step.gradients if any(keeps(s, flush.done) and flush.done <= averaged for flush in found) else 0.0
    saved = saved_bytes(s, s.shape.num_layers - 1, step.layer)
    return _moment(step, "backward", kept, waiting_head_bytes(s) + saved + step.backward)


def at_tied_embedding(step: StepMemory, found: Sequence[Flush]) -> Moment:
    """Return the embedding's gradient joining that of a head that is the embedding too: both, and their sum."""
    s, layers = step.s, step.s.shape.num_layers
    kept = step.gradients if any(keeps(s, flush.done) and flush.arrived.layer < layers for flush in found) else 0.0
    return _moment(step, "backward", kept, 3 * waiting_head_bytes(s))


def _moment(step: StepMemory, phase: Phase, kept: float, rest: float) -> Moment:
    """Return a moment from gradients of this GPU's shard that are kept, and all that grows with the batch or is on its way."""
    return Moment(
        phase=phase,
        gradients=step.first_gradients + kept,
        activations=rest,
        optimizer=step.optimizer,
        gathers=step.buckets,
    )


def left_bytes(step: StepMemory, flush: Flush) -> float:
    """Return what is left of the layers as a bucket is averaged."""
    s, arrived = step.s, flush.arrived
    return waiting_for(s, arrived) + saved_bytes(s, arrived.layer, step.layer) + arrived.left


def arrived_bytes(flush: Flush) -> float:
    """Return the gradients that are there as they were made: a large one of the bucket, and the one that arrived."""
    return 2.0 * (flush.uncopied + flush.arrived.elements)


def waiting_for(s: MemoryScenario, arrived: Gradient) -> float:
    """Return the head's gradient where it still waits as another one arrives."""
    return waiting_head_bytes(s) if arrived.layer < s.shape.num_layers else 0.0


def waiting_head_bytes(s: MemoryScenario) -> float:
    """Return the gradient of a head that is the embedding too: it waits for the embedding's part."""
    return 2.0 * s.shape.num_table_parameters if s.shape.tied else 0.0


def keeps(s: MemoryScenario, done: int) -> bool:
    """Whether something of the first GPU's shard is among the elements that have been averaged.

    That shard begins with the embedding, which comes last. Norms are divided apart from matrices (they have no weight decay),
    and a share of them belongs to the first GPU too: its last is the first to come.
    """
    shape = s.shape
    end, layer = shape.num_parameters - shape.num_table_parameters, shape.num_layer_parameters
    per_layer = 2 + shape.extra_norms
    below, after = divmod(ceil((per_layer * shape.num_layers + 1) / s.state_shards) - 1, per_layer)
    # A layer's first norm goes backward when all of the layer has; its others before its attention.
    norm = end - below * layer - (layer - sum(mlp_elements(shape)) if after else 0)
    return done >= norm or done > shape.num_parameters * (1 - 1 / s.state_shards)


def saved_bytes(s: MemoryScenario, done: int, layer: float) -> float:
    """Return what is saved when so many layers have gone backward, and the next has begun."""
    shape = s.shape
    layers = shape.num_layers - done
    if s.activation_checkpointing:
        return (layer if layers else 0.0) + 2.0 * s.tokens * shape.hidden_size * layers + mask_bytes(s)
    return layer * layers + mask_bytes(s, layers)


def flushes(s: MemoryScenario, layer: float) -> Iterator[Flush]:
    """Yield the buckets that are averaged, by walking the matrices in the order of backward; the embedding comes last."""
    filled, number, done, last = 0, 0, 0, Gradient(0, s.shape.num_layers, 0.0)
    for gradient in gradients(s, layer):
        if filled and filled + gradient.elements > DEFAULT_BUCKET:
            done += filled
            yield Flush(filled, number, done, gradient)
            filled, number = 0, 0
        filled, number = filled + gradient.elements, number + 1
    yield Flush(filled, number, done + filled, last)


def gradients(s: MemoryScenario, layer: float) -> Iterator[Gradient]:
    """Yield all gradients of matrices in the order of backward."""
    shape = s.shape
    if not shape.tied:
        yield Gradient(shape.num_table_parameters, 0, 0.0)
    # The last norm's scale comes before the layers: nothing of them has been freed, or recomputed.
    start = -layer if s.activation_checkpointing else 0.0
    yield Gradient(shape.hidden_size, 0, start + 4.0 * s.tokens * shape.hidden_size)
    matrices = tuple(layer_gradients(s, layer))
    for number in range(shape.num_layers):
        yield from (Gradient(elements, number, left) for elements, left in matrices)
    yield Gradient(shape.num_table_parameters, shape.num_layers, 0.0)


def layer_gradients(s: MemoryScenario, layer: float) -> Iterator[tuple[int, float]]:
    """Yield the matrices of one layer, the last first, each with what is left of the layer when its gradient arrives."""
    shape = s.shape
    residual, width = 4.0 * s.tokens * shape.hidden_size, 2.0 * s.tokens * shape.mlp_width
    # The product has been used and is as large as its gradient; after it the MLP is gone but for the gate and its gradient.
    whole, without = residual, residual - s.tokens * mlp_bytes(s) - width
    mlp = list(
        zip(mlp_elements(shape), (whole, *([without + 2 * width] if splits_gate(shape) else []), without), strict=True)
    )
    yield from mlp
    rest = shape.num_layer_parameters - sum(elements for elements, _ in mlp)
    norm = s.tokens * norm_bytes(s) / 2
    query, key_value = shape.hidden_size * shape.query_width, shape.hidden_size * shape.key_value_width
    inputs = residual - layer + norm
    for elements, left in ((query, without - norm), (key_value, inputs), (key_value, inputs)):
        yield min(elements, rest), left
        rest -= min(elements, rest)
    yield rest, inputs  # with what else the layer has: norms, biases, a router


def splits_gate(shape: Shape) -> bool:
    """Whether gate and up are two matrices: those of stacked experts are one."""
    return shape.gated and not shape.num_expert_parameters


def mlp_elements(shape: Shape) -> tuple[int, ...]:
    """Return the elements of an MLP's matrices in the order of backward."""
    if not shape.num_expert_parameters:
        return (shape.hidden_size * shape.mlp_width,) * (3 if shape.gated else 2)
    experts = shape.num_expert_parameters // shape.num_layers
    first = experts * 2 // 3 if shape.gated else experts // 2
    return experts - first, first
