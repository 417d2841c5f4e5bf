"""How well measurements cover a case, and the margin that follows. Called by estimate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from finetune_operator.planning.memory.scenario import MemoryScenario

Confidence = Literal["high", "medium", "low"]

MARGIN = 1.10
MARGIN_UNKNOWN_STACK = 1.15
MARGIN_PADDED = 1.30


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
    Doubt("low", "few measured runs with offload, and its buffers differ between versions",
          lambda s: s.parameter_offload or s.optimizer_offload),
    Doubt("low", "few measured runs with an 8-bit base model, and the int8 kernels differ between versions",
          lambda s: s.quantization == "int8"),
    Doubt("low", "padded rows of varying length fragment memory, and how much depends on the data",
          lambda s: s.batching == "padded-variable"),
    Doubt("medium", "extrapolated from Mixtral to other mixture-of-experts models", lambda s: bool(s.shape.num_expert_parameters)),
    Doubt("medium", "few measured runs without flash attention",
          lambda s: s.attention != "flash"),
    Doubt("medium", "the preference objective is calculated, not measured", lambda s: s.objective not in ("sft", "cpt")),
    Doubt("medium", "DoRA is simulated, not measured", lambda s: s.adapter is not None and s.adapter.dora),
    Doubt("medium", "Adafactor is calculated from its code, not measured", lambda s: s.optimizer == "adafactor"),
    Doubt("medium", "the states of a paged optimizer are assumed to be in host memory",
          lambda s: s.optimizer.startswith("paged") and s.adapter is None),
)  # fmt: skip
"""The first that holds is the one that is said."""
