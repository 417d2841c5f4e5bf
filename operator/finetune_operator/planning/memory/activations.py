"""Memory that grows with the batch: what a layer saves for backward, boundaries, logits.

Called by step_memory and step_moments; backward has one layer's working set. The saved tensors are those of transformers' eager
decoder layers, counted one by one (docs/vram-model.md has the list); a frozen matrix does not save its input, an adapted
one saves it once more.
"""

from finetune_operator.planning.memory.constants import Constants
from finetune_operator.planning.memory.dora import DORA_BYTES
from finetune_operator.planning.memory.scenario import MemoryScenario, Shape

TILE_TOKENS, TILE_WIDTH = 4096, 32768
"""TRL 1.16's tile of the logits: tokens, and entries of the vocabulary (trl.kernels.chunked_logprob)."""


def norm_bytes(s: MemoryScenario) -> float:
    """Return the norms of one layer per token: RMSNorm keeps a float32 copy of its input, LayerNorm the input."""
    shape, h = s.shape, s.shape.hidden_size
    per_norm = 4.0 * h if shape.gated else 2.0 * h
    between = 4.0 * (shape.query_width + shape.key_value_width) if shape.qk_norm else 0.0
    if s.adapter is None:
        # A trained scale needs what it scales, in the residual stream's type or in float32.
        wide = s.loss_kernel == "tiled" and s.float32_weights and not s.deepspeed
        scaled = 4.0 if wide or shape.float32_scales else 2.0
        per_norm += scaled * h
        between *= 1 + scaled / 4
    return (2 + shape.extra_norms) * per_norm + between


def attention_bytes(s: MemoryScenario) -> float:
    """Return what the attention kernel of one layer saves per token: queries, keys, values, output, row sums."""
    shape = s.shape
    # Only FlashAttention takes grouped keys as they are; with a mask they are repeated for every query head first.
    keys = shape.key_value_width if s.attention == "flash" else shape.query_width
    base = 2.0 * (2 * shape.query_width + 2 * keys) + 4.0 * shape.num_heads
    if s.attention == "eager":
        return base + scores_bytes(shape) * span(s) * shape.num_heads
    return base


def scores_bytes(shape: Shape) -> float:
    """Return what eager attention keeps per pair of tokens and head: softmax in float32, its 16-bit copy, a capped score."""
    return 8.0 if shape.capped_scores else 6.0


def square_bytes(s: MemoryScenario) -> float:
    """Return what is saved for backward and grows with the square of the length."""
    layers = 1 if s.activation_checkpointing else s.shape.num_layers
    scores = scores_bytes(s.shape) * s.tokens * span(s) * s.shape.num_heads if s.attention == "eager" else 0.0
    return scores * layers + mask_bytes(s)


def span(s: MemoryScenario) -> int:
    """Return how many tokens one row has: packed rows of a micro batch are laid end to end, as one."""
    return s.tokens if s.batching == "packed" else s.sequence_length


def mask_bytes(s: MemoryScenario, layers: int | None = None) -> float:
    """Return the masks of plain sdpa: rows that share a sequence or are padded, or a window of tokens.

    Each layer's kernel keeps a 16-bit bias made from its mask until its backward pass; `layers` have one still: all unless
    said, or with recomputation the one that is there. The masks, one byte per pair of tokens, are needed again only where
    layers are recomputed: one of all tokens, one of a window. Eager attention adds masks of the residual stream's type to its
    scores, and keeps nothing of that.
    """
    shape, alone, pairs = s.shape, s.masked_windows, s.tokens * span(s)
    kinds = 2 if 0 < shape.sliding_layers < shape.num_layers and not alone else 1
    masks = kinds if s.activation_checkpointing else 0
    if s.attention == "eager":
        return masks * residual_width(s) * pairs
    if s.attention != "sdpa-mask":
        return 0.0
    left = shape.num_layers if layers is None else layers
    left = min(1, left) if s.activation_checkpointing else left
    if alone and not s.activation_checkpointing:
        left = left * shape.sliding_layers // shape.num_layers
    return (masks + 2.0 * left) * pairs


def mlp_bytes(s: MemoryScenario) -> float:
    """Return what the MLP's nonlinearity saves per token: gate, its activation and up; or one of two matrices."""
    routed = (
        4.0 if trains_experts(s) else 2.0
    ) * s.shape.routed_width  # outputs before they are weighed, gathered inputs
    return 2.0 * s.shape.mlp_width * (3 if s.shape.gated else 1) + routed


def trains_experts(s: MemoryScenario) -> bool:
    """Whether stacked experts keep what they read, the tokens gathered per chosen expert, for gradients of their own."""
    return s.adapter is None or (s.adapter.materialized_weights > 0 and not s.adapter.dora)


def input_bytes(s: MemoryScenario) -> float:
    """Return the inputs of matrices that one layer saves per token, for the gradients of what is trained."""
    shape, adapter = s.shape, s.adapter
    shared = 2.0 * (2 * shape.hidden_size + shape.mlp_width)
    if adapter is None and s.autocast and s.sharding != "fsdp":
        # The residual stream is float32, and autocast casts it for each matrix anew: queries, keys, values, gate, up.
        return 2.0 * ((5 if shape.gated else 4) * shape.hidden_size + shape.mlp_width)
    if adapter is None:
        return shared
    own = 2.0 * adapter.input_width
    # DeepSpeed's own linear layer keeps every input, of a frozen matrix too; stacked experts are none.
    kept = shared if keeps_frozen_inputs(s) else 0.0
    if adapter.dropout:
        return own + 1.0 * adapter.input_width + kept  # each adapted matrix keeps its own copy, and a mask of one byte
    # Each adapted matrix casts its input to the adapter's float32, and autocast casts that back: a copy each. Norms over a
    # float32 base make float32 inputs, which autocast casts for each matrix as well.
    if adapter.casts_inputs or (s.autocast and s.sharding != "fsdp"):
        return own
    return max(kept, 2.0 * adapter.distinct_width if adapter.distinct_width else min(own, shared))


def keeps_frozen_inputs(s: MemoryScenario) -> bool:
    """Whether frozen matrices save their inputs too.

    Stage 3 replaces torch's linear function (deepspeed.runtime.zero.linear), which 4-bit matrices do not use; bitsandbytes'
    8-bit product keeps its input though nothing needs it (MatMul8bitLt, ctx.tensors).
    """
    replaced = s.sharding == "zero3" and not s.shape.num_expert_parameters and s.quantization == "none"
    return replaced or s.quantization == "int8"


def layer_bytes(s: MemoryScenario, constants: Constants) -> float:
    """Return all that one layer saves for backward, without checkpointing."""
    per_token = norm_bytes(s) + attention_bytes(s) + mlp_bytes(s) + input_bytes(s)
    if s.loss_kernel == "litgpt" and s.quantization in ("nf4", "nf4-double"):
        per_token += constants.fabric_outputs * output_width(s.shape)
    if s.adapter is not None and s.adapter.dora:
        per_token += DORA_BYTES * (s.adapter.output_width or output_width(s.shape))
    saved = s.tokens * per_token
    if s.adapter is not None and s.adapter.dora and s.adapter.dropout and s.adapter.casts_inputs:
        # The product is made anew from the matrix in the adapter's type, which autocast casts back: a copy, saved.
        saved += 2.0 * s.adapter.materialized_weights
    if s.adapter is not None and not s.adapter.dora:
        saved += 2.0 * s.adapter.materialized_weights  # experts with their change, which their product keeps
    return saved * (constants.compiled_activations if s.compiled else 1.0) + unpacked_bytes(s)


def ungraded_bytes(s: MemoryScenario) -> float:
    """Return what the first layer does not save of that, as nothing before it is trained, so its input has no gradient.

    That input's norm, and the masks of dropout before the adapters that read the norm. Checkpointing asks for the gradient.
    """
    shape, adapter = s.shape, s.adapter
    if adapter is None or s.trains_embeddings or s.activation_checkpointing:
        return 0.0
    masks = min(adapter.input_width, 3 * shape.hidden_size) if adapter.dropout else 0
    return s.tokens * ((4.0 if shape.gated else 2.0) * shape.hidden_size + masks)


def unpacked_bytes(s: MemoryScenario) -> float:
    """Return one layer's experts turned back into 16 bit: their product keeps them for its backward pass."""
    if s.quantization == "none" or not s.quantized_experts:
        return 0.0
    return 2.0 * s.shape.num_expert_parameters / s.shape.num_layers


def output_width(shape: Shape) -> int:
    """Return the outputs of all matrices of one layer."""
    mlp = (2 if shape.gated else 1) * shape.mlp_width
    return shape.query_width + 2 * shape.key_value_width + 2 * shape.hidden_size + mlp


def cast_bytes(s: MemoryScenario) -> float:
    """Return the 16-bit copies of float32 weights that live at the end of forward.

    Autocast caches the copy of a trained weight until forward has ended; a frozen one lives as long as its layer.
    """
    if not s.autocast or s.sharding == "fsdp" or s.deepspeed:
        return 0.0
    linear = 2.0 * s.shape.num_linear_parameters
    if s.adapter is None:
        return (
            linear if s.loss_kernel == "tiled" else linear + 2.0 * s.shape.num_table_parameters
        )  # tiles cast their part alone
    return linear / s.shape.num_layers if s.activation_checkpointing else linear


def boundary_bytes(s: MemoryScenario) -> float:
    """Return the inputs of all layers, which checkpointing keeps (Korthikanti et al. 2022: 2 s b h L)."""
    if s.activation_offload:
        return 0.0
    return residual_width(s) * s.tokens * s.shape.hidden_size * s.shape.num_layers


def residual_width(s: MemoryScenario) -> float:
    """Return the bytes of one element of the residual stream.

    A float32 embedding makes it float32, whatever matrices are computed in.
    """
    wide = s.float32_residual or (s.autocast and s.float32_weights and s.sharding != "fsdp")
    return 4.0 if wide else 2.0


def logits_bytes(s: MemoryScenario, constants: Constants) -> float:
    """Return the loss over the vocabulary at the start of backward."""
    if s.loss_kernel == "tiled":
        return tiled_bytes(s)
    # Where scores are capped logits are too, by another tanh that keeps its result; Liger's and CCE's kernels cap inside.
    capped = 2.0 if s.shape.capped_scores and s.loss_kernel not in ("liger", "cce") else 0.0
    per_token = (constants.logits_bytes[s.loss_kernel] + capped) * s.shape.vocab_size + 12.0 * s.shape.hidden_size
    # A head that was cast to float32 is cast back for its product, which keeps that copy for its backward pass.
    head = 2.0 * s.shape.num_table_parameters if s.float32_residual else 0.0
    return s.tokens * per_token + head


def fused_head_bytes(s: MemoryScenario) -> float:
    """Return the gradient of a trained head, which Liger's and CCE's losses make with the loss, whole and in the head's type."""
    if s.adapter is not None or s.loss_kernel not in ("liger", "cce"):
        return 0.0
    wide = s.float32_weights and not s.deepspeed and s.sharding != "fsdp"
    return (4.0 if wide else 2.0) * s.shape.num_table_parameters


def final_norm_bytes(s: MemoryScenario) -> float:
    """Return what the norm before the head needs as it goes backward, when the loss is over: it is before all layers.

    Its float32 input, and five float32 gradients: of what it scaled, of the product's two factors, of the square and its mean.
    """
    return s.tokens * (24.0 if s.shape.gated else 6.0) * s.shape.hidden_size


def tiled_bytes(s: MemoryScenario) -> float:
    """Return TRL's chunked loss: a 16-bit tile, and the gradients of hidden states and of a trained head in float32.

    At the end the gradient is cast to what it belongs to, which is a copy unless that is float32. Per hidden element 12
    bytes: the selected states, their gradient and its cast, and what the last norm keeps.
    """
    tile = 2.0 * TILE_WIDTH * min(s.tokens, TILE_TOKENS)
    wide = s.float32_weights and not s.deepspeed
    narrowed = 2.0 * TILE_WIDTH * s.shape.hidden_size if wide else 0.0
    head = 0.0
    if s.adapter is None or s.trains_embeddings:
        head = (4.0 if wide else 6.0) * s.shape.num_table_parameters
    return 12.0 * s.tokens * s.shape.hidden_size + tile + narrowed + head
