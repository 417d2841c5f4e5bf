"""Memory of the fullest GPU at its peak, term by term. Called by the planner and `finetune vram`.

The peak is the largest of the moments of loading and of a training step, not a sum over all of them. Read next: scenario, loading,
step_moments, step_memory, states, activations, backward, zero2, gathers, constants. docs/vram-model.md has formulas, sources and errors.
"""

from dataclasses import dataclass

from finetune_operator.planning.memory.activations import square_bytes
from finetune_operator.planning.memory.confidence import Confidence, confidence_of, margin_of
from finetune_operator.planning.memory.constants import DEFAULT, GIB, Constants
from finetune_operator.planning.memory.loading import at_loading
from finetune_operator.planning.memory.moment import Moment, Phase
from finetune_operator.planning.memory.scenario import MemoryScenario
from finetune_operator.planning.memory.states import (
    importance_bytes,
    num_trained,
    reference_bytes,
    resident_weight_bytes,
    saved_module_bytes,
    subgroup_slack_bytes,
    trained_bytes,
)
from finetune_operator.planning.memory.step_memory import StepMemory
from finetune_operator.planning.memory.step_moments import moments


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
    def when(self) -> str:
        """While what, for a message: empty for training."""
        return " while it loads" if self.phase == "loading" else ""

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


def estimate(scenario: MemoryScenario, constants: Constants = DEFAULT, *, loads: bool = True) -> MemoryEstimate:
    """Return the peak of a run, explained; without `loads` that of its steps alone."""
    s = scenario
    weights = 0.0 if s.parameter_offload else resident_weight_bytes(s)
    adapter = num_trained(s) * trained_bytes(s).copy + importance_bytes(s) + saved_module_bytes(s)
    loading = at_loading(s, resident=weights + reference_bytes(s) + adapter)
    found = (*moments(StepMemory(s, constants)), *((loading,) if loads else ()))
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


def slack_bytes(s: MemoryScenario, moment: Moment, constants: Constants) -> float:
    """Return what the caching allocator has reserved at a moment beyond what is allocated."""
    if s.batching == "padded-variable":
        square = min(moment.activations, square_bytes(s))
        rest = constants.slack_padded_rest * (moment.activations - square) + constants.slack_padded_square * square
        return max(constants.slack_padded_logits * moment.logits, rest)
    factor = constants.slack_fused if s.loss_kernel in ("liger", "cce", "tiled") else constants.slack
    return (factor - 1) * (moment.activations + moment.logits)
