"""Memory of the fullest GPU at its peak, term by term. Called by the planner and `finetune vram`.

The peak is the largest of three moments, not a sum over all of them: the start of backward (everything saved, and the
logits), the end of backward (all gradients, one layer's working set), and the optimizer step. Read next: scenario,
states, activations, backward, zero2, gathers, constants. docs/vram-model.md has formulas,
sources and errors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from finetune_operator.planning.memory.activations import (
    boundary_bytes,
    cast_bytes,
    final_norm_bytes,
    fused_head_bytes,
    layer_bytes,
    logits_bytes,
    mask_bytes,
    mlp_bytes,
    square_bytes,
    table,
    ungraded_bytes,
)
from finetune_operator.planning.memory.backward import (
    attention_backward_bytes,
    backward_bytes,
    dora_bytes,
    scattered_bytes,
    working_set_bytes,
)
from finetune_operator.planning.memory.buckets import bucket_bytes, flattened_bytes
from finetune_operator.planning.memory.constants import DEFAULT, GIB, Constants
from finetune_operator.planning.memory.gathers import LIVE_PARAMETERS, gathered
from finetune_operator.planning.memory.scenario import MemoryScenario
from finetune_operator.planning.memory.states import (
    gradient_bytes,
    importance_bytes,
    num_trained,
    optimizer_bytes,
    reference_bytes,
    resident_weight_bytes,
    saved_module_bytes,
    step_bytes,
    subgroup_slack_bytes,
    trained_bytes,
)
from finetune_operator.planning.memory.zero2 import averaging_moments

Confidence = Literal["high", "medium", "low"]
Phase = Literal["loss", "backward", "step"]

MARGIN = 1.10
MARGIN_UNKNOWN_STACK = 1.15
MARGIN_PADDED = 1.30


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """GiB of one GPU at its peak. The terms add up to `card_gib`."""

    weights_gib: float
    adapter_gib: float
    gradients_gib: float
    optimizer_gib: float
    activations_gib: float
    logits_gib: float
    gathers_gib: float
    """Weights of other GPUs gathered for use, and communication buffers."""
    slack_gib: float
    """What the caching allocator holds beyond what is used."""
    context_gib: float
    """CUDA context and NCCL: outside PyTorch's allocator."""
    margin: float
    phase: Phase
    """The moment of the peak."""
    confidence: Confidence
    confidence_reason: str

    @property
    def allocated_gib(self) -> float:
        """torch.cuda.max_memory_allocated."""
        return (
            self.weights_gib + self.adapter_gib + self.gradients_gib + self.optimizer_gib
            + self.activations_gib + self.logits_gib + self.gathers_gib
        )  # fmt: skip

    @property
    def reserved_gib(self) -> float:
        """torch.cuda.max_memory_reserved."""
        return self.allocated_gib + self.slack_gib

    @property
    def card_gib(self) -> float:
        """What nvidia-smi shows."""
        return self.reserved_gib + self.context_gib

    @property
    def request_gib(self) -> float:
        """With the margin: what must fit the card."""
        return self.card_gib * self.margin


@dataclass(frozen=True, slots=True)
class Moment:
    """What lives at one moment, in bytes, beside weights, adapter and optimizer states."""

    phase: Phase
    gradients: float
    activations: float
    logits: float
    optimizer: float
    gathers: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.gradients + self.activations + self.logits + self.optimizer + self.gathers


def estimate(scenario: MemoryScenario, constants: Constants = DEFAULT) -> MemoryEstimate:
    """Return the peak of a run, explained."""
    s = scenario
    weights = 0.0 if s.parameter_offload else resident_weight_bytes(s)
    adapter = num_trained(s) * trained_bytes(s).copy + importance_bytes(s) + saved_module_bytes(s)
    found = moments(s, constants)
    peak = max(found, key=lambda moment: moment.total)
    # The moment that needs the most memory from the driver need not be the one that uses the most.
    slack = max(moment.total + slack_bytes(s, moment, constants) for moment in found) - peak.total
    slack += subgroup_slack_bytes(s)
    context = constants.context_gib + (constants.communication_gib if s.num_gpus > 1 else 0.0)
    context += constants.deepspeed_gib if s.deepspeed else 0.0
    confidence, reason = confidence_of(s)
    return MemoryEstimate(
        weights_gib=(weights + reference_bytes(s)) / GIB,
        adapter_gib=adapter / GIB,
        gradients_gib=peak.gradients / GIB,
        optimizer_gib=peak.optimizer / GIB,
        activations_gib=peak.activations / GIB,
        logits_gib=peak.logits / GIB,
        gathers_gib=peak.gathers / GIB,
        slack_gib=slack / GIB,
        context_gib=context,
        margin=margin_of(s),
        phase=peak.phase,
        confidence=confidence,
        confidence_reason=reason,
    )


def moments(s: MemoryScenario, constants: Constants) -> tuple[Moment, ...]:
    """Return the moments that can be the peak."""
    gradients, states, buckets = gradient_bytes(s), optimizer_bytes(s), bucket_bytes(s)
    working, back = working_set_bytes(s, constants), backward_bytes(s, constants)
    logits, fixed = logits_bytes(s, constants), cast_bytes(s) + mask_bytes(s)
    whole = gathered(s)
    # Stage 3 lays its gradients out in advance (stage3.py, grad_partitions_flat_buffer).
    early = gradients if s.accumulates or (s.sharding == "zero3" and s.adapter is None) else 0.0
    if s.activation_checkpointing:
        saved, layer = boundary_bytes(s) + fixed, working
    elif s.activation_offload:
        saved, layer = fixed, working  # what a layer saves leaves for the host while the next one runs
    else:
        # The last layer's own backward pass comes after the loss, when nothing else has been freed.
        saved, layer = layer_bytes(s, constants) * s.shape.num_layers - ungraded_bytes(s) + fixed, back
    # Autocast forgets its copies with the forward pass, before the gradient of the head is there; a layer that is recomputed
    # has its own.
    recomputes = s.activation_checkpointing and s.adapter is None
    gone = min(cast_bytes(s), 4.0 * table(s.shape)) if recomputes else 0.0
    kept = saved - (cast_bytes(s) * (1 - 1 / s.shape.num_layers) if recomputes else 0.0)
    # No layer is recomputed yet, whose kernel makes a bias of its mask.
    recomputed = mask_bytes(s) - mask_bytes(s, 0) if s.activation_checkpointing else 0.0
    # The loss is over before layers go backward, and stage 2's buckets are made when the first gradient is there.
    first = 0.0 if s.sharding == "zero2" else buckets
    # Adapters on attention alone: the last layer's MLP goes backward before the first gradient.
    late = s.adapter is not None and not s.adapter.adapts_down and s.attention != "eager"
    later, freed = (first, saved / s.shape.num_layers) if late else (buckets, 0.0)
    found: tuple[Moment, ...] = (
        Moment("loss", early + fused_head_bytes(s), saved - gone - recomputed, logits, states, whole.loss + first),
        Moment("loss", early, saved - gone - recomputed + final_norm_bytes(s), 0.0, states, whole.loss + first),
        Moment("loss", early, kept + layer + waiting_bytes(s), 0.0, states, whole.layer + later),
        Moment("loss", early, saved + dora_bytes(s), 0.0, states, whole.layer + first),
        Moment("loss", early, kept - freed + layer, 0.0, states, whole.layer + buckets),
        Moment("loss", early, kept + layer - back + attention_backward_bytes(s), 0.0, states, whole.layer + buckets),
        Moment("step", gradients, 0.0, 0.0, states + step_bytes(s), buckets if s.sharding in KEPT else 0.0),
    )
    if s.sharding == "zero2" and s.adapter is None:
        found += tuple(Moment(m.phase, m.kept, m.rest, 0.0, states, buckets) for m in averaging_moments(s, constants))
    else:
        last = max(last_layer_bytes(s, working), flattened_bytes(s))
        found += (Moment("backward", gradients, last, 0.0, states, whole.last + buckets),)
        found += (Moment("backward", gradients, 0.0, 0.0, states, whole.embedding + buckets),)
    before = saved if s.activation_checkpointing else saved_with_experts(s, saved)
    return (*found, Moment("loss", early, before, 0.0, states, whole.fetch + later)) if whole.fetch else found


KEPT = ("zero3", "ddp")
"""Shardings whose buffers outlive the backward pass."""


def saved_with_experts(s: MemoryScenario, saved: float) -> float:
    """Return what layers have saved when the last one's experts have arrived in buffers that are still there.

    Where there is room to fetch ahead the buffers outlive the layer, whose results go back to their tokens; else what the
    last layer's MLP saves is not there yet.
    """
    head_and_layer = table(s.shape) + s.shape.num_linear_parameters // s.shape.num_layers
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
    return experts + (trained_bytes(s).gradient * table(s.shape) if s.shape.tied else 0.0)


def last_layer_bytes(s: MemoryScenario, working: float) -> float:
    """Return what the first layer, the last to go backward, needs beyond all gradients.

    The gradient of the embedding comes after it; where head and embedding are one, it and the sum of both join the first.
    """
    if s.adapter is not None or s.optimizer_in_backward:
        return working + mask_bytes(s, 1)
    embedding = trained_bytes(s).gradient * table(s.shape)
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


def slack_bytes(s: MemoryScenario, moment: Moment, constants: Constants) -> float:
    """Return what the caching allocator has reserved at a moment beyond what is allocated."""
    if s.batching == "padded-variable":
        square = min(moment.activations, square_bytes(s))
        rest = constants.slack_padded_rest * (moment.activations - square) + constants.slack_padded_square * square
        return max(constants.slack_padded_logits * moment.logits, rest)
    factor = constants.slack_fused if s.loss_kernel in ("liger", "cce", "tiled") else constants.slack
    return (factor - 1) * (moment.activations + moment.logits)


def margin_of(s: MemoryScenario) -> float:
    """Return the factor between what the card will show and what we ask for."""
    if s.batching == "padded-variable":
        return MARGIN_PADDED
    return MARGIN_UNKNOWN_STACK if confidence_of(s)[0] == "low" else MARGIN


def confidence_of(s: MemoryScenario) -> tuple[Confidence, str]:
    """Say how well measurements cover a case, and why not better."""
    found = next((why for why in DOUBTS if why.holds(s)), None)
    return (found.confidence, found.reason) if found else ("high", "")


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something in a scenario that few or no measurements cover."""

    confidence: Confidence
    reason: str
    holds: Callable[[MemoryScenario], bool]


DOUBTS = (
    Doubt("low", "offload: few measured runs, and buffers differ between versions",
          lambda s: s.parameter_offload or s.optimizer_offload),
    Doubt("low", "8-bit base: few measured runs, and bitsandbytes' int8 kernels changed between versions",
          lambda s: s.quantization == "int8"),
    Doubt("low", "padded rows of changing length fragment memory, by how much depends on the data",
          lambda s: s.batching == "padded-variable"),
    Doubt("medium", "mixture of experts: extrapolated from Mixtral", lambda s: bool(s.shape.num_expert_parameters)),
    Doubt("medium", "attention without a linear-memory kernel: derived, hardly measured",
          lambda s: s.attention != "flash"),
    Doubt("medium", "preference objective: derived, not measured", lambda s: s.objective not in ("sft", "cpt")),
    Doubt("medium", "DoRA: simulated, not measured", lambda s: s.adapter is not None and s.adapter.dora),
    Doubt("medium", "Adafactor: derived from its code, not measured", lambda s: s.optimizer == "adafactor"),
    Doubt("medium", "paged optimizer: its states count as outside the GPU, where they may stay",
          lambda s: s.optimizer.startswith("paged") and s.adapter is None),
)  # fmt: skip
"""The first that holds is the one that is said."""
