"""The memory of one GPU while the base model's weights arrive: a moment before the first step. Called by estimate.

The rules are those of transformers' loader (5.23: core_model_loading, integrations/deepspeed) with our packing of experts
(trainer_image model/quantise.py). Tensors come in the order of their names, so a layer's experts come before its attention.
`python -m finetune_trainer simulate` runs that loader without a GPU; tests/data/simulated-loading.jsonl has what it found.
"""

from finetune_operator.planning.memory.moment import Moment
from finetune_operator.planning.memory.scenario import MemoryScenario
from finetune_operator.planning.memory.states import BYTES_PER_LINEAR, first_experts, weight_bytes


def at_loading(s: MemoryScenario, *, resident: float) -> Moment:
    """Return the fullest moment of loading, as what it holds beyond what is counted as resident in training."""
    return Moment(
        phase="loading", gradients=0.0, activations=0.0, optimizer=0.0, gathers=loading_bytes(s) - resident
    )  # fmt: skip


def loading_bytes(s: MemoryScenario) -> float:
    """Return the most that one GPU holds while it loads; 0 where another program than ours loads (FSDP)."""
    if s.sharding == "fsdp":
        return 0.0
    if s.quantization != "none":
        return _packed(s)
    return _divided(s) if s.sharding == "zero3" else _whole(s)


def _whole(s: MemoryScenario) -> float:
    """All weights, and the last layer's gate and up twice as they are laid end to end, when only its attention is missing.

    Files that name the down projection last (Mixtral) need half as much beside the weights.
    """
    shape, width = s.shape, weight_bytes(s) / s.shape.num_parameters
    if not shape.num_expert_parameters:
        return weight_bytes(s)
    attention = shape.num_layer_parameters - shape.num_expert_parameters // shape.num_layers
    return weight_bytes(s) + width * max(0, first_experts(shape) - attention)


def _packed(s: MemoryScenario) -> float:
    """The whole packed model, also at ZeRO stage 3 (transformers leaves zero.Init out for quantised models), and one tensor.

    A matrix is there in 16 bit as it is packed; a layer's stacked experts are, twice: one by one, and laid end to end.
    """
    shape, packed = s.shape, weight_bytes(s)
    matrix = packed + 2.0 * shape.hidden_size * max(shape.widest_mlp, shape.query_width)
    if not shape.num_expert_parameters or not s.quantized_experts:
        return matrix
    first = first_experts(shape)
    attention = shape.num_layer_parameters - shape.num_expert_parameters // shape.num_layers
    return max(matrix, packed - BYTES_PER_LINEAR[s.quantization] * (first + attention) + 2 * 2.0 * first)


def _divided(s: MemoryScenario) -> float:
    """A share of all weights, and the module that is being made or filled, whole (deepspeed zero.Init, GatheredParameters).

    A head that will be the embedding is made first, and divided, like any other.
    """
    shape, weights = s.shape, weight_bytes(s)
    shards = 0.0 if s.parameter_offload else 1 / s.weight_shards
    table, first = 2.0 * shape.num_table_parameters, 2.0 * first_experts(shape)
    experts = 2.0 * shape.num_expert_parameters / shape.num_layers
    matrix = 0.0 if experts else 2.0 * shape.hidden_size * shape.widest_mlp
    tied = table if shape.tied else 0.0
    filled = (weights + tied) * shards + max(table, first, matrix)
    made = (weights - (table - tied) - experts + first) * shards + experts
    return max(filled, made)
