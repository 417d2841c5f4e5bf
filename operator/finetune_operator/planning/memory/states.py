"""Memory that does not depend on the batch: weights, trained copies, gradients, optimizer states, step temporaries.

Called by step_memory and step_moments. Everything in bytes on one GPU, before and after sharding as said.
"""

from dataclasses import dataclass
from itertools import chain, repeat
from math import ceil

from finetune_operator.planning.memory.scenario import MemoryScenario, Optimizer, Quantization, Shape

BYTES_PER_LINEAR: dict[Quantization, float] = {
    "none": 2.0,
    "nf4": 0.5 + 4 / 64,  # one float32 scale per block of 64
    "nf4-double": 0.5 + 1 / 64 + 4 / (64 * 256),  # the scales themselves in 8 bit, blocks of 256
    "int8": 1.0,  # and a float32 scale per row, which is nothing
    "gptq-int4": 0.5 + 2.5 / 128,  # group 128: a 16-bit scale and a 4-bit zero point
}
"""Bytes per parameter of a quantised linear layer."""

SUBGROUP = 1_000_000_000
"""DeepSpeed's sub_group_size: parameters that the step upcasts at once."""

EIGHT_BIT = 2 * (1 + 4 / 256)
"""Two moments in 8 bit, with a float32 scale per block of 256."""

OWN_LOOPS = ("chunked", "litgpt")
"""Loss kernels that only torchtune and litgpt have: their training loops are not transformers' Trainer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateBytes:
    """Bytes per trained parameter."""

    copy: float
    """Beside the base weights: adapters, or trained copies."""
    gradient: float
    optimizer: float
    step: float
    """Temporary during the optimizer step."""

    def scaled(self, optimizer: Optimizer) -> "StateBytes":
        """Replace AdamW's two moments by what another optimizer keeps."""
        match optimizer:
            case "adamw":
                return self
            case "adamw-fused":
                moments, step = self.optimizer, 0.0
            case "adamw-8bit":
                moments, step = EIGHT_BIT, 0.0
            case "paged-adamw" | "paged-adamw-8bit":
                moments, step = 0.0, 0.0  # on a good day: pages leave the GPU only when it is full
            case "adafactor":
                moments, step = (
                    0.02,
                    0.0,
                )  # a row and a column per matrix; its temporary is not per parameter, see below
        return StateBytes(copy=self.copy, gradient=self.gradient, optimizer=moments, step=step)


def weight_bytes(s: MemoryScenario) -> float:
    """Return the resident base weights, unsharded."""
    shape = s.shape
    embeddings = 4.0 if s.float32_residual or _wide(s) else 2.0
    if s.quantization == "none":
        return shape.num_parameters * (4.0 if _wide(s) else 2.0)
    experts = 0 if s.quantized_experts else shape.num_expert_parameters
    linear = (shape.num_linear_parameters - experts) * BYTES_PER_LINEAR[s.quantization]
    return linear + 2.0 * experts + embeddings * shape.num_embedding_parameters


def resident_weight_bytes(s: MemoryScenario) -> float:
    """Return the base weights of one GPU.

    bitsandbytes' scales are no parameters, so that neither stage 3 nor FSDP divides them: every GPU has all.
    """
    if s.quantization not in ("nf4", "nf4-double"):
        return weight_bytes(s) / s.weight_shards
    experts = 0 if s.quantized_experts else s.shape.num_expert_parameters
    packed = s.shape.num_linear_parameters - experts
    scales = packed * (BYTES_PER_LINEAR[s.quantization] - 0.5)
    return (weight_bytes(s) - scales) / s.weight_shards + scales


def _wide(s: MemoryScenario) -> bool:
    """Whether resident weights are float32. DeepSpeed keeps its masters apart, with the optimizer."""
    return s.float32_weights and not s.deepspeed


def trained_bytes(s: MemoryScenario) -> StateBytes:
    """Return the bytes per trained parameter by the rules of the framework."""
    if s.deepspeed:
        copy = 0.0 if s.adapter is None else 2.0
        base = StateBytes(copy=copy, gradient=2, optimizer=8, step=4).scaled(s.optimizer)
        # Masters are float32 whatever the optimizer; the step upcasts the gradient.
        return StateBytes(copy=copy, gradient=2, optimizer=base.optimizer + 4, step=4)
    if s.adapter is None:
        full = (0, 4, 8, 4) if s.float32_weights else (0, 2, 4, 2)
    else:
        full = (4, 4, 8, 4) if s.adapter.dtype == "float32" else (2, 2, 4, 2)
    copy, gradient, moments, step = full
    return StateBytes(copy=copy, gradient=gradient, optimizer=moments, step=step).scaled(s.optimizer)


def num_trained(s: MemoryScenario) -> int:
    """Return the number of trained parameters, modules_to_save apart."""
    return s.shape.num_parameters if s.adapter is None else s.adapter.num_parameters


def importance_bytes(s: MemoryScenario) -> float:
    """Return AdaLoRA's scores: sensitivity, its mean and its spread, each like the adapter (peft RankAllocator.update_ipt)."""
    if s.adapter is None or not s.adapter.adalora:
        return 0.0
    return 3 * trained_bytes(s).copy * s.adapter.num_parameters


def saved_module_bytes(s: MemoryScenario) -> float:
    """Return embeddings and head trained beside an adapter: copy, gradient, moments and step in 16 bit."""
    if s.adapter is None or not s.trains_embeddings:
        return 0.0
    states = StateBytes(copy=2, gradient=2, optimizer=4, step=2).scaled(s.optimizer)
    if s.deepspeed:
        states = trained_bytes(s)  # float32 masters and moments for these as well
    each = states.copy / s.weight_shards + (states.gradient + states.optimizer + states.step) / s.state_shards
    return s.shape.num_embedding_parameters * each


def reference_bytes(s: MemoryScenario) -> float:
    """Return the copy of the untrained model that a preference objective compares with."""
    if s.objective not in ("dpo", "kto") or s.reference != "copy":
        return 0.0
    if s.adapter is not None and s.quantization != "none":
        return weight_bytes(s) / s.weight_shards
    return 2.0 * s.shape.num_parameters / s.weight_shards


def gradient_bytes(s: MemoryScenario) -> float:
    """Return the gradients of one whole backward pass on one GPU."""
    if s.optimizer_in_backward:
        # Freed as they come, but the vocabulary's gradient outlives the pass where embedding and head share it.
        width = trained_bytes(s).gradient if s.adapter is None else 0.0
        return width * s.shape.num_table_parameters * (2 if s.shape.tied else 1)
    if s.parameter_offload or (s.optimizer_offload and s.deepspeed):
        # Gradients leave for the host as layers are done: two layers' worth is in flight.
        return 2.0 * trained_bytes(s).gradient * num_trained(s) / s.shape.num_layers / s.state_shards
    if s.sharding == "zero2" and s.adapter is None:
        return trained_bytes(s).gradient * touched_parameters(s.shape, s.state_shards)
    return num_trained(s) * trained_bytes(s).gradient / s.state_shards


def touched_parameters(shape: Shape, shards: int) -> int:
    """Return the parameters of the matrices that the first GPU's shard touches, and begins with the embedding.

    Stage 2 keeps gradients of whole matrices (deepspeed/runtime/zero/stage_1_and_2.py, copy_grads_in_partition).
    """
    share = shape.num_parameters / shards
    layer = shape.num_layer_parameters
    experts = shape.num_expert_parameters // shape.num_layers
    first = first_experts(shape)
    steps = (layer - experts, first, experts - first) if experts else (layer,)
    total = shape.num_table_parameters
    for elements in chain.from_iterable(repeat(steps, shape.num_layers)):
        if total >= share:
            break
        # A dense layer's matrices are small beside what is kept: the shard's own share of them is near enough.
        total += elements if experts else min(elements, ceil(share - total))
    return min(shape.num_parameters, max(total, ceil(share)))


def first_experts(shape: Shape) -> int:
    """Return one layer's stacked gate and up, which are one matrix."""
    experts = shape.num_expert_parameters // shape.num_layers
    return experts * 2 // 3 if shape.gated else experts // 2


def optimizer_bytes(s: MemoryScenario) -> float:
    """Return the optimizer states on one GPU, float32 masters of DeepSpeed included."""
    if s.optimizer_offload or s.parameter_offload:
        return 0.0
    return (num_trained(s) * trained_bytes(s).optimizer + wide_moments_bytes(s)) / s.state_shards


def wide_moments_bytes(s: MemoryScenario) -> float:
    """Return what the embedding's moments take beyond 8 bit: transformers' Trainer keeps them in float32.

    Also those of an embedding that is trained beside an adapter.
    """
    trained = s.adapter is None or s.trains_embeddings
    if s.optimizer != "adamw-8bit" or not trained or s.loss_kernel in OWN_LOOPS or s.deepspeed:
        return 0.0  # DeepSpeed's flat shards are no embeddings to it
    return (8.0 - EIGHT_BIT) * s.shape.num_table_parameters


def step_bytes(s: MemoryScenario) -> float:
    """Return what only the optimizer step needs."""
    if s.optimizer_offload or s.parameter_offload or s.optimizer_in_backward:
        return 0.0
    share = num_trained(s) / s.state_shards
    if s.optimizer == "adafactor" and s.adapter is None and not s.deepspeed:
        # One parameter at a time, the vocabulary's table the largest: its squared gradient and the factors' product in
        # float32, and 16-bit weights and gradients cast to that (transformers.optimization.Adafactor.step).
        return (8.0 if s.float32_weights else 16.0) * s.shape.num_table_parameters / s.state_shards
    if s.sharding == "zero2" and s.adapter is None:
        return max(flat_step_bytes(s, share), gradient_norm_bytes(s.shape, share))
    if s.sharding == "zero3" and s.adapter is None:
        # A sub-group's gradient laid end to end in 16 bit and cast to float32; or that and foreach's temporary.
        return (8.0 if s.optimizer == "adamw" else 6.0) * largest_subgroup(s.shape, s.state_shards)
    return share * trained_bytes(s).step


def flat_step_bytes(s: MemoryScenario, share: float) -> float:
    """Return stage 2's step: the shard's gradient laid end to end in 16 bit, then in float32; and foreach's temporary.

    A shard that is part of the embedding alone lies end to end already.
    """
    flat = 0.0 if s.shape.num_table_parameters >= share else 2.0
    return (flat + (8.0 if s.optimizer == "adamw" else 4.0)) * share


def largest_subgroup(shape: Shape, shards: int) -> float:
    """Return one GPU's share of the parameters that stage 3 steps at once.

    Matrices are added in the order of the model until there are SUBGROUP (deepspeed/runtime/zero/stage3.py,
    _create_fp16_sub_groups), so a group is larger by what its last one has too many.
    """
    table, layer = shape.num_table_parameters, shape.num_layer_parameters
    experts, square = shape.num_expert_parameters // shape.num_layers, shape.hidden_size * shape.query_width
    mlp = layer - experts - 2 * square
    first = first_experts(shape)
    matrices = (2 * square, first, experts - first, mlp) if experts else (2 * square, *(mlp // 3,) * 3)
    largest, filled = 0.0, 0.0
    for elements in chain(
        (table,), chain.from_iterable(repeat(matrices, shape.num_layers)), (0 if shape.tied else table,)
    ):
        filled += elements / shards
        largest = max(largest, filled)
        filled = 0.0 if filled >= SUBGROUP else filled
    return largest


def gradient_norm_bytes(shape: Shape, share: float) -> float:
    """Return the largest gradient of a shard in float64, of which stage 2 takes the norm (get_grad_norm_direct)."""
    table = shape.num_table_parameters
    layer, experts = (n // shape.num_layers for n in (shape.num_linear_parameters, shape.num_expert_parameters))
    before = table + layer - experts  # what the shard has before the first layer's stacked gate and up
    return 8.0 * max(min(table, share), min(first_experts(shape), share - before))


def subgroup_slack_bytes(s: MemoryScenario) -> float:
    """Return the reserved but unused memory of DeepSpeed's step: buffers as large as a sub-group, each made anew.

    4 bytes per parameter of a sub-group: Qwen's ZeRO-3 rows need 12 in all where 8 are allocated.
    """
    if not s.deepspeed or s.adapter is not None or s.optimizer_offload:
        return 0.0
    return 4.0 * min(num_trained(s) / s.state_shards, SUBGROUP)
