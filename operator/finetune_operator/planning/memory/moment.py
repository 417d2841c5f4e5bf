"""A moment of loading or of a training step, and what lives then. Made by loading, step_moments and zero2; estimate takes the fullest."""

from dataclasses import dataclass
from typing import Literal

Phase = Literal["loading", "loss", "backward", "step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What lives at one moment, in bytes, beside weights and adapter."""

    phase: Phase
    gradients: float
    activations: float
    logits: float = 0.0
    optimizer: float
    gathers: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.gradients + self.activations + self.logits + self.optimizer + self.gathers
