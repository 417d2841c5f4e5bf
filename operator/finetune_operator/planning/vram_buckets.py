"""Buckets in which gradients are reduced: DDP's and DeepSpeed's, and the copy that stage 2 averages. Called by vram.

The rules are those of deepspeed/runtime/zero/stage_1_and_2.py (0.19): a gradient that does not fit the bucket any more has
it reduced first, laid end to end, and that is as the gradient arrives.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from finetune_operator.planning.vram_activations import mlp_bytes, table
from finetune_operator.planning.vram_scenario import MemoryScenario, Shape
from finetune_operator.planning.vram_states import gradient_bytes, num_trained

DEFAULT_BUCKET = 500_000_000
"""DeepSpeed's default reduce_bucket_size (deepspeed/runtime/zero/config.py, 0.19)."""


def bucket_bytes(s: MemoryScenario) -> float:
    """Return DeepSpeed's 16-bit reduce buckets: two in stage 2, where communication overlaps, one in stage 3.

    5e8 elements by default, which our trainer keeps, as do examples that offload; other published configurations say 2e8
    for stage 2 and auto, a few megabytes, for stage 3.
    """
    default = s.loss_kernel == "tiled" or s.optimizer_offload
    match s.sharding:
        case "zero2":
            return 2 * 2.0 * (DEFAULT_BUCKET if default else 200_000_000)
        case "zero3":
            return 2.0 * (DEFAULT_BUCKET if default else 0)
        case "ddp":
            return gradient_bytes(s)  # DDP reduces in buckets, a second copy of all gradients
        case _:
            return 0.0


def flattened_bytes(s: MemoryScenario) -> float:
    """Return the copy of a bucket's gradients, laid end to end, that stage 2 averages."""
    return bucket_bytes(s) / 2 * min(1.0, num_trained(s) / DEFAULT_BUCKET) if s.sharding == "zero2" else 0.0


def last_flattened_bytes(s: MemoryScenario) -> float:
    """Return what stage 2 averages last: a bucket, or the embedding's gradient where that fits none.

    Then it is there as it was made, as the first GPU keeps it, and laid end to end. Without accumulation the kept one is
    part of the shard's gradients, of which the first GPU's begin with the embedding.
    """
    if s.sharding != "zero2" or s.adapter is not None or table(s.shape) <= DEFAULT_BUCKET:
        return flattened_bytes(s)
    kept = 0.0 if s.accumulates else min(gradient_bytes(s), 2.0 * table(s.shape))
    return 3 * 2.0 * table(s.shape) - kept


def flushed_bytes(s: MemoryScenario) -> float:
    """Return what is there at the fullest moment that a bucket is averaged in, beyond what the layer saved."""
    saved = mlp_bytes(s) - 4.0 * s.shape.routed_width + 2.0 * s.shape.mlp_width
    return max((one.bytes_with(s) for one in flushes(s.shape)), default=0.0) - s.tokens * saved


@dataclass(frozen=True, slots=True)
class Flush:
    """A bucket that is averaged because one more gradient does not fit."""

    elements: int
    """In the bucket."""
    mlp_widths: float
    """Of the layer's MLP, tensors of tokens x width that are still there."""
    arrived: int
    """Elements of the gradient that did not fit."""

    def bytes_with(self, s: MemoryScenario) -> float:
        """Return the copy, the gradient, and what is left of the MLP."""
        return 2.0 * (self.elements + self.arrived + self.mlp_widths * s.tokens * s.shape.backward_width)


WHOLE_MLP = 5.0
"""At the last matrix's gradient: gate, its activation, up, their product, the product's gradient."""
AFTER_PRODUCT = 3.0
"""At up's: the gate, and the gradients of both factors."""


def flushes(shape: Shape) -> tuple[Flush, ...]:
    """Return how full buckets are when they are averaged in the layers, by walking the matrices in the order of backward."""
    found, filled = [], 0 if shape.tied else table(shape)
    for elements, widths in chain.from_iterable(_layer(shape) for _ in range(shape.num_layers)):
        if filled and filled + elements > DEFAULT_BUCKET:
            found.append(Flush(filled, widths, elements))
            filled = 0
        filled += elements
    return tuple(found)


def _layer(shape: Shape) -> Iterator[tuple[int, float]]:
    """Yield the matrices of one layer, the last first, each with what is left of the MLP when its gradient arrives."""
    h, layer = shape.hidden_size, shape.num_linear_parameters // shape.num_layers
    if shape.num_expert_parameters:
        experts = shape.num_expert_parameters // shape.num_layers
        first = experts * 2 // 3 if shape.gated else experts // 2  # gate and up are one stacked matrix
        mlp = [(experts - first, WHOLE_MLP), (first, 0.0)]
    else:
        between = [AFTER_PRODUCT] if shape.gated else []
        mlp = [(h * shape.mlp_width, left) for left in (WHOLE_MLP, *between, 0.0)]
    yield from mlp
    attention = (h * shape.query_width, h * shape.key_value_width, h * shape.key_value_width, h * shape.query_width)
    rest = layer - sum(elements for elements, _ in mlp)
    yield from ((min(elements, rest), 0.0) for elements in attention)
