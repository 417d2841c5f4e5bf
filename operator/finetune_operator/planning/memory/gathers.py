"""Weights of other GPUs that one GPU holds for a while: FSDP's units, and what DeepSpeed's stage 3 keeps gathered.

Called by step_memory and step_moments. The rules are those of deepspeed/runtime/zero (0.19): partitioned_param_coordinator fetches,
prefetches and releases, partition_parameters gathers. Numbers of parameters, then 2 bytes for each.
"""

from dataclasses import dataclass, replace

from finetune_operator.planning.memory.scenario import MemoryScenario, Shape
from finetune_operator.planning.memory.states import weight_bytes

LIVE_PARAMETERS = 1_000_000_000
"""stage3_max_live_parameters: nothing is fetched ahead beyond it. stage3_max_reuse_distance is the same number."""

PREFETCH = 50_000_000
"""stage3_prefetch_bucket_size: so many are fetched together, and the one that passes it."""

PERSISTENT = 100_000
"""stage3_param_persistence_threshold: smaller parameters are never divided."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Bytes of gathered weights at the moments of a step."""

    loss: float
    last_layer: float
    """While the last layer, the first to go backward, does."""
    experts: float
    """While a layer's stacked experts arrive, and none of its activations is there; 0: no such moment."""
    first_layer: float
    """While the first layer, the last to go backward, does. Everything is given back before the optimizer's step."""
    embedding: float = 0.0
    """When the embedding's turn comes after that layer, at last."""


def gathered(s: MemoryScenario) -> Gathered:
    """Return the gathered weights of a run."""
    if s.sharding != "zero3":
        units = _fsdp_bytes(s)
        return Gathered(units, units, 0.0, units)
    packed = s.quantization in ("nf4", "nf4-double")
    if packed:
        s = replace(s, shape=_packed(s.shape))
    shape = s.shape
    # bitsandbytes' 4-bit product saves its gathered matrix for backward, which so is there until then.
    saved = shape.num_linear_parameters if packed and not s.activation_checkpointing else 0
    if s.loss_kernel == "tiled":
        return _with_open_head(s, saved)
    # Views of gathered experts, saved for backward, keep them: all layers' without checkpointing.
    experts = shape.num_expert_parameters // (shape.num_layers if s.activation_checkpointing else 1)
    live = 2.0 * max(min(shape.num_parameters, LIVE_PARAMETERS), experts, shape.num_table_parameters + saved)
    return Gathered(live, live, 0.0, live)


def _packed(shape: Shape) -> Shape:
    """Return a model whose 4-bit matrices are counted as what they are stored in: 16-bit elements of four weights each."""
    return replace(
        shape,
        num_parameters=shape.num_embedding_parameters + shape.num_linear_parameters // 4,
        num_expert_parameters=shape.num_expert_parameters // 4,
        query_width=shape.query_width // 4,
        widest_mlp=shape.widest_mlp // 4,
    )


def _with_open_head(s: MemoryScenario, saved: int) -> Gathered:
    """Return what our trainer keeps gathered.

    TRL's tiled loss reads the head's weight outside the head's own module, so DeepSpeed counts it as a parameter of the
    whole model: it stays from the start of forward to the end of backward.
    """
    shape, head = s.shape, s.shape.num_table_parameters
    layer = shape.num_layer_parameters
    whole = max(1, min(shape.num_layers, (LIVE_PARAMETERS - head) // layer))  # layers that there is room for
    room = head + whole * layer < LIVE_PARAMETERS
    # The embedding's own turn comes last, but it is fetched as soon as nothing else is missing and there is room. A frozen
    # one has a turn only where checkpointing wants gradients of the first layer's input.
    returns = s.adapter is None or s.activation_checkpointing
    tables = 2 * head if returns and not shape.tied else head
    embedding = tables - head if room else 0
    if shape.num_expert_parameters:
        # A layer's experts come at once, whether there is room or not.
        kept = whole * layer if s.activation_checkpointing else shape.num_expert_parameters
        loss = head + kept + embedding
    elif whole == shape.num_layers:
        loss = head + shape.num_linear_parameters + embedding
    else:
        loss = max(head, LIVE_PARAMETERS)  # matrix by matrix, up to the limit
    loss = max(loss, head + saved)
    held = layer if s.activation_checkpointing or head < LIVE_PARAMETERS else _widest_matrix(s)
    at_layer = max(loss, head + held)
    last = at_layer
    if s.adapter is not None and not shape.num_expert_parameters:
        # Where DeepSpeed sees the next use of all weights from anywhere, none is given back, and the embedding comes alone.
        near = head + 3 * shape.num_linear_parameters < LIVE_PARAMETERS
        copied = 0 if near else _copied_embedding(s, embedding, whole)
        if whole == shape.num_layers and copied == embedding:
            at_layer += copied  # nothing is missing already while the forward pass runs
        # Layers are released after their last use, so the first layer is alone with the tables at last; but the embedding
        # is fetched as soon as all layers that are left are there.
        last = max(at_layer if shape.tied else 0, head + held + embedding + copied, head + whole * layer + embedding)
    return Gathered(2.0 * loss, 2.0 * at_layer, 2.0 * _fetched_experts(s, layer), 2.0 * last, 2.0 * tables)


def _widest_matrix(s: MemoryScenario) -> int:
    """Return what is gathered of a layer where the head alone is as far as DeepSpeed looks for the next use of a weight.

    Then a weight is given back after its use (__params_to_release), and a layer has one matrix at a time; but a layer that is
    recomputed uses its weights again at once.
    """
    shape = s.shape
    experts = shape.num_expert_parameters // shape.num_layers
    return max(experts, shape.hidden_size * shape.widest_mlp)


def _copied_embedding(s: MemoryScenario, embedding: int, whole: int) -> int:
    """Return the embedding once more, where it is fetched together with something else, and that.

    Parameters that are fetched together arrive in one buffer and are copied out of it; the buffer is freed when the last of
    them is used, and that is the embedding. A parameter that comes alone needs no copy. The layer's last matrix comes last,
    and where it is large enough and has no adapter it comes alone, as then the embedding does; else with that.
    """
    adapter = s.adapter
    if adapter is None or not embedding:
        return 0
    rank = adapter.num_parameters / s.shape.num_layers / (adapter.input_width + adapter.output_width)
    small = s.shape.hidden_size * s.shape.widest_mlp < PREFETCH
    if small or (adapter.adapts_down and rank * s.shape.hidden_size > PERSISTENT):
        return embedding
    # DoRA reads each matrix again right after its product, so none is given back then.
    returns = not adapter.dora and _first_matrix_returns(s.shape, whole)
    return embedding + _first_matrix(s.shape) if returns else 0


def _first_matrix_returns(shape: Shape, whole: int) -> bool:
    """Whether the first layer's first matrix is given back in the forward pass, and fetched anew with the embedding.

    All layers are there then, so nothing else is missing. It is given back where its next use, as the first layer is
    recomputed, is as far away as DeepSpeed looks: the layers above twice more, and the head.
    """
    layer = shape.num_layer_parameters
    distance = layer * (3 * shape.num_layers - 2) - _first_matrix(shape) + shape.num_table_parameters
    return whole == shape.num_layers and distance >= LIVE_PARAMETERS


def _first_matrix(shape: Shape) -> int:
    """Return the weights of the matrix of queries."""
    return shape.hidden_size * shape.query_width


def _fetched_experts(s: MemoryScenario, layer: int) -> float:
    """Return head, embedding, one layer, and the buffer in which its attention and its experts' first matrix arrived.

    Without checkpointing the experts of all layers are there instead, which autograd's views keep, and where there is room to
    fetch ahead a first matrix once more, for backward; the embedding is not.
    """
    shape = s.shape
    if not shape.num_expert_parameters:
        return 0.0
    experts = shape.num_expert_parameters / shape.num_layers
    first = experts * (2 / 3 if shape.gated else 1 / 2)  # gate and up are one stacked matrix
    if not s.activation_checkpointing:
        ahead = first if shape.num_table_parameters + layer < LIVE_PARAMETERS else 0
        return shape.num_table_parameters + shape.num_expert_parameters + (layer - experts) + first + ahead
    return (1 if shape.tied else 2) * shape.num_table_parameters + layer + (layer - experts) + first


def _fsdp_bytes(s: MemoryScenario) -> float:
    """Return two layers whole, and embedding and head."""
    if s.weight_shards == 1 and not s.parameter_offload:
        return 0.0
    shape = s.shape
    linear = 2.0 * shape.num_linear_parameters
    if s.quantization != "none":
        linear = weight_bytes(s) - 2.0 * shape.num_embedding_parameters
    return 2 * linear / shape.num_layers + 2.0 * shape.num_embedding_parameters
