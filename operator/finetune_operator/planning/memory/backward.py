"""What one layer's backward pass needs at once, beyond what the layer has saved: the widest of its moments.

Called by step_memory and step_moments. Stacked experts have moments of their own: a gradient of theirs is as large as a small model.
"""

from finetune_operator.planning.memory.activations import (
    input_bytes,
    keeps_frozen_inputs,
    layer_bytes,
    mlp_bytes,
    norm_bytes,
    span,
    unpacked_bytes,
)
from finetune_operator.planning.memory.buckets import DEFAULT_BUCKET
from finetune_operator.planning.memory.constants import Constants
from finetune_operator.planning.memory.dora import DORA_BYTES, norm_peak_bytes
from finetune_operator.planning.memory.scenario import MemoryScenario


def working_set_bytes(s: MemoryScenario, constants: Constants) -> float:
    """Return one layer recomputed and going backward."""
    total = layer_bytes(s, constants) + backward_bytes(s, constants)
    if s.sharding == "fsdp" and s.adapter is not None and s.loss_kernel not in ("chunked", "litgpt"):
        total *= constants.fsdp_adapter_working_set
    return total


def backward_bytes(s: MemoryScenario, constants: Constants) -> float:
    """Return the temporaries of one layer's backward pass, and a quantised matrix turned back into 16 bit.

    The widest moments are the MLP's: the product's gradient beside those of both its factors, or the last matrix's own.
    """
    fused = constants.compiled_activations if s.compiled else 1.0
    added = s.sharding in ("none", "ddp") and s.accumulates  # a new gradient is added to the one that is there
    if s.adapter is None and s.shape.routed_width and (s.sharding == "zero2" or added):
        return passing_experts_bytes(s)
    if s.adapter is not None and s.adapter.materialized_weights and not s.adapter.dora:
        return adapted_experts_bytes(s)
    # By then the last matrix has been used, and its experts' 16-bit copy is gone.
    used = unpacked_bytes(s) / (3 if s.shape.gated else 2)
    product = s.tokens * fused * (product_width_bytes(s) + 4.0 * s.shape.hidden_size) - used
    matrix = s.tokens * fused * 2.6 * s.shape.backward_width + dequantized_bytes(s)
    widest = max(product, matrix) - late_gradient_bytes(s)
    widest = max(widest, last_expert_bytes(s), scattered_bytes(s), gathered_back_bytes(s), last_norm_bytes(s))
    if s.attention == "eager":
        widest = max(widest, scores_backward_bytes(s))
    if s.adapter is not None and s.adapter.dora:
        return max(widest, dora_bytes(s)) if s.activation_checkpointing else widest
    return widest + (0.0 if s.adapter is None else s.adapter.materialized_weights * 2.0 / 3)


def dora_bytes(s: MemoryScenario) -> float:
    """Return what DoRA needs in a layer's forward pass, less what the layer saves after it: adapters on attention, the MLP."""
    if s.adapter is None or not s.adapter.dora:
        return 0.0
    later = 0.0 if s.adapter.adapts_down else s.tokens * (mlp_bytes(s) + norm_bytes(s) / 2)
    return norm_peak_bytes(s, s.adapter) - later


def last_expert_bytes(s: MemoryScenario) -> float:
    """Return what the end of a layer's forward pass needs where its experts are unpacked: the product, or weighed outputs."""
    if not unpacked_bytes(s):
        return 0.0
    shape = s.shape
    return 2.0 * s.tokens * (max(shape.backward_width, shape.routed_width) + shape.hidden_size)


def scattered_bytes(s: MemoryScenario) -> float:
    """Return what is there as the results of stacked experts go back to their tokens: one per chosen expert.

    Forward those that are weighed, and backward begins with the gradient of their sum, spread over all of them, before it
    asks for the layer to be recomputed; of the residual's width two gradients, the norm's output and the sum it came from.
    Backward makes two more to put it in order, when what was weighed and gathered is gone. Experts have no gradient yet.
    """
    if not s.shape.routed_width:
        return 0.0
    later = 2.0 * s.shape.num_expert_parameters / s.shape.num_layers if s.adapter is None else 0.0
    return s.tokens * (6.0 * s.shape.routed_width + 8.0 * s.shape.hidden_size) - later


def late_gradient_bytes(s: MemoryScenario) -> float:
    """Return the gradient of a layer's first stacked experts, gate and up, which is not there when the last ones' is."""
    if s.adapter is not None or not s.shape.routed_width:
        return 0.0
    return 2.0 * s.shape.num_expert_parameters / s.shape.num_layers * (2 / 3 if s.shape.gated else 1 / 2)


def gathered_back_bytes(s: MemoryScenario) -> float:
    """Return what trained experts' first matrix needs as it goes backward, less what the MLP saved and is gone.

    The gradients of gate and up, and of the tokens that were gathered.
    """
    if s.adapter is not None or not s.shape.routed_width:
        return 0.0
    gone = mlp_bytes(s) - 4.0 * s.shape.routed_width + 2.0 * s.shape.mlp_width
    return s.tokens * (4.0 * s.shape.backward_width + 2.0 * s.shape.routed_width + 4.0 * s.shape.hidden_size - gone)


def passing_experts_bytes(s: MemoryScenario) -> float:
    """Return the widest moment of trained stacked experts whose gradients leave at once: for a bucket of ZeRO stage 2, or a sum.

    As the last matrix goes backward: its gradient beside the product's, and those of what it put out and of the residual.
    At the product, with two gradients more and without it; at the first matrix, gate and up, with what that reads.
    """
    shape = s.shape
    experts = 2.0 * shape.num_expert_parameters / shape.num_layers
    first = experts * (2 / 3 if shape.gated else 1 / 2)
    last = experts - first
    stays = last if s.sharding == "zero2" and last > 2.0 * DEFAULT_BUCKET else 0.0  # no bucket takes it
    matrix = s.tokens * 2.0 * (shape.backward_width + shape.routed_width + shape.hidden_size) + last
    product = s.tokens * 4.0 * (shape.backward_width + shape.hidden_size) + stays
    # Results that go back to their tokens meet no gradient of the layer's experts yet.
    scattered = scattered_bytes(s) + experts
    return max(matrix, product, gathered_back_bytes(s) + first + stays, scattered)


def adapted_experts_bytes(s: MemoryScenario) -> float:
    """Return the widest moment of stacked experts with an adapter, whose change is multiplied out and gets a gradient.

    As the last matrix goes backward: its gradient, the product it read and that one's gradient, and gradients of what it put
    out and of the residual. At the product, three gradients: the matrix's has been taken apart by then.
    """
    shape = s.shape
    last = 2.0 * shape.num_expert_parameters / shape.num_layers * (1 / 3 if shape.gated else 1 / 2)
    matrix = s.tokens * (4.0 * shape.backward_width + 2.0 * (shape.routed_width + shape.hidden_size)) + last
    product = s.tokens * (6.0 * shape.backward_width + 4.0 * shape.hidden_size)
    return max(matrix, product, scattered_bytes(s))


def attention_backward_bytes(s: MemoryScenario) -> float:
    """Return what the attention kernel's backward pass needs, less the layer's MLP, which went backward before.

    The queries' gradient added up in float32, three gradients as wide, and two of the residual stream.
    """
    needed = 10.0 * s.shape.query_width + 4.0 * s.shape.hidden_size
    experts = unpacked_bytes(s) + (0.0 if s.adapter is None else 2.0 * s.adapter.materialized_weights)
    return s.tokens * (needed - mlp_bytes(s) - norm_bytes(s) / 2) - experts


def scores_backward_bytes(s: MemoryScenario) -> float:
    """Return what softmax's backward pass needs in eager attention, less all of the layer that went backward before.

    The gradient in float32 and that of the scores, less the 16-bit copy of the softmax that has been used: 6 bytes a pair.
    Gradients of the residual and of the output are there, output and values are not, nor are the kernel's row sums ever.
    """
    h, q = s.shape.hidden_size, s.shape.query_width
    gone = mlp_bytes(s) + later_norm_bytes(s) + later_input_bytes(s) + later_output_bytes(s)
    gone += 2.0 * q + 4.0 * s.shape.num_heads - 2.0 * h
    return 6.0 * s.tokens * span(s) * s.shape.num_heads - s.tokens * gone


def later_norm_bytes(s: MemoryScenario) -> float:
    """Return what a layer's norms save after its attention, per token: all but the first of the residual stream's."""
    norms = 2 + s.shape.extra_norms
    return norm_bytes(s) * (norms - 1) / norms


def later_input_bytes(s: MemoryScenario) -> float:
    """Return the inputs that a layer saves after its attention's scores, per token: all that do not come from its first norm.

    Queries, keys and values with an adapter each read that norm's output.
    """
    shape, adapter = s.shape, s.adapter
    if adapter is None:
        return input_bytes(s) * (shape.hidden_size + shape.mlp_width) / (2 * shape.hidden_size + shape.mlp_width)
    return input_bytes(s) * max(0, adapter.input_width - 3 * shape.hidden_size) / max(1, adapter.input_width)


def later_output_bytes(s: MemoryScenario) -> float:
    """Return what DoRA keeps of the results of a layer's matrices after its attention's scores, per token."""
    if s.adapter is None or not s.adapter.dora:
        return 0.0
    return DORA_BYTES * max(0, s.adapter.output_width - s.shape.query_width - 2 * s.shape.key_value_width)


def last_norm_bytes(s: MemoryScenario) -> float:
    """Return what a norm at the end of a layer (Gemma) needs to go backward, when all that the layer saved is there still.

    Five float32 gradients: of what it scaled, of the product's two factors, and of the square and its mean; and the gradient
    that arrived, in 16 bit.
    """
    return 22.0 * s.tokens * s.shape.hidden_size if s.shape.extra_norms else 0.0


def product_width_bytes(s: MemoryScenario) -> float:
    """Return the bytes per token at the MLP's product: three gradients, less the product where that had been saved."""
    i, h, adapter = s.shape.backward_width, s.shape.hidden_size, s.adapter
    if not s.shape.gated:
        return 4.0 * i
    if adapter is None:
        return 4.0 * i
    if not adapter.adapts_down:
        return 4.0 * i if keeps_frozen_inputs(s) else 6.0 * i
    if adapter.casts_inputs and adapter.dropout:
        # Still forward, as the last matrix's adapter drops: the product, its float32 cast, what is left of that; and of the
        # residual's width the norm's output, the sum it came from and the matrix's result, beyond the gradients.
        # DoRA multiplies what was dropped by the frozen matrix too: its 16-bit cast, and that result.
        return (12.0 * i + 8.0 * h) if adapter.dora else (10.0 * i + 6.0 * h)
    # DoRA scales its results in float32: three such gradients and one cast beside two in 16 bit, when the product's copy and
    # both factors but one are gone, and the last matrix's results.
    if adapter.casts_inputs and adapter.dora:
        return max(9.0 * i, 14.0 * i - DORA_BYTES * h)
    # The gradient of the float32 cast lives beside that of the frozen matrix.
    if adapter.casts_inputs:
        return 9.0 * i
    return 3.0 * i if adapter.dropout else 4.0 * i


def dequantized_bytes(s: MemoryScenario) -> float:
    """Return the one matrix that a quantised layer turns back into 16 bit at a time."""
    if s.quantization == "none":
        return 0.0
    return 2.0 * s.shape.hidden_size * max(s.shape.hidden_size, s.shape.widest_mlp)
