"""The backward pass of a full fine-tune at ZeRO stage 2, bucket by bucket: what is there as each is averaged. Called by step_moments.

The rules are those of deepspeed/runtime/zero/stage_1_and_2.py (0.19): a gradient that does not fit the bucket any more has
it averaged first, laid end to end, and that is as the gradient arrives. One larger than a bucket stays where it was made
and is averaged as the next arrives. What the GPU's shard touches is then kept, of whole parameters, in a buffer that is
made as large as all of them when the first of them has been averaged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from finetune_operator.planning.memory.activations import layer_bytes, mask_bytes, mlp_bytes, norm_bytes
from finetune_operator.planning.memory.backward import backward_bytes
from finetune_operator.planning.memory.buckets import DEFAULT_BUCKET
from finetune_operator.planning.memory.constants import Constants
from finetune_operator.planning.memory.moment import Moment, Phase
from finetune_operator.planning.memory.scenario import MemoryScenario, Shape
from finetune_operator.planning.memory.states import gradient_bytes


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
    def uncopied(self) -> int:
        """Elements of a gradient that is larger than a bucket, so that it is there as it was made."""
        return self.elements if self.elements > DEFAULT_BUCKET else 0


def averaging_moments(s: MemoryScenario, constants: Constants, *, optimizer: float, buckets: float) -> Iterator[Moment]:
    """Yield what is there whenever a bucket is averaged, and when the buffer of what is kept has just been made.

    And as the first layer, the last to go backward, does, and as the embedding's gradient joins a tied head's.
    """
    layer, own = layer_bytes(s, constants), gradient_bytes(s)

    def moment(phase: Phase, kept: float, rest: float) -> Moment:
        """Gradients of this GPU's shard that are kept; and what grows with the batch, or is a gradient on its way."""
        return Moment(phase=phase, gradients=kept, activations=rest, optimizer=optimizer, gathers=buckets)

    before = own if s.accumulates else 0.0
    found = tuple(flushes(s, layer))
    share = s.shape.num_parameters / s.state_shards
    for flush in found:
        waiting = waiting_head_bytes(s) if flush.arrived.layer < s.shape.num_layers else 0.0
        left = waiting + saved_bytes(s, flush.arrived.layer, layer) + flush.arrived.left
        arrived = 2.0 * (flush.uncopied + flush.arrived.elements)
        had = own if keeps(s, flush.done - flush.elements) else 0.0
        yield moment("loss", before + had, left + arrived + 2.0 * flush.copied(share))
        if had or not keeps(s, flush.done):
            continue
        yield moment("loss", before + own, left + arrived)
        if flush.arrived.layer + 1 < s.shape.num_layers:
            widest = waiting + saved_bytes(s, flush.arrived.layer + 1, layer) + backward_bytes(s, constants)
            yield moment("loss", before + own, widest)
    first = s.shape.num_parameters - s.shape.num_table_parameters - s.shape.num_layer_parameters
    had = own if any(keeps(s, flush.done) and flush.done <= first for flush in found) else 0.0
    saved = saved_bytes(s, s.shape.num_layers - 1, layer)
    yield moment("backward", before + had, waiting_head_bytes(s) + saved + backward_bytes(s, constants))
    if s.shape.tied:
        had = own if any(keeps(s, flush.done) and flush.arrived.layer < s.shape.num_layers for flush in found) else 0.0
        yield moment("backward", before + had, 3 * waiting_head_bytes(s))


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
