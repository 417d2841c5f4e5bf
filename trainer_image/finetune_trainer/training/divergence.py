"""When a loss means that the run is lost: not a number, or far above its best for long. Pure. Called by callbacks and held_out."""

import math
from collections.abc import Iterable

from finetune_trainer.errors import UserError

DIVERGENCE_REMEDY = (
    "lower spec.training.learningRate, raise warmupFraction or look for broken rows with `finetune data preview`"
)

SMOOTHING = 0.95
"""Weight of the past in the smoothed loss: the mean of some twenty steps."""

LEAST_STEPS = 20
"""Before that the smoothed loss is not smooth, and neither a start nor a best."""

FACTOR, NATS = 3.0, 2.0
"""Lost is a run whose smoothed loss is so many times its best, so much above it, and above where it started. A run that forgets
all it knows goes to 5 to 11 nats per token. Rows of another kind cost less. A recorded healthy curve of single rows, whose steps
jump between 0.004 and 1.4, comes to 1.5 times its best (tests/data/loss_curves.json)."""

STEPS = 50
"""For so many steps in a row. Spikes that a run recovers from are over sooner."""


class LossWatch:
    """The smoothed loss of a run so far."""

    def __init__(self, losses: Iterable[float] = ()) -> None:
        self.seen = 0
        self.start = self.best = math.inf
        self.best_step = 0
        self.above = 0
        self._weighted = 0.0
        for loss in losses:
            self.add(loss)

    @property
    def smoothed(self) -> float:
        """The mean of the last losses, of fewer steps at the beginning."""
        return self._weighted / (1 - SMOOTHING**self.seen)

    def add(self, loss: float) -> None:
        """Take over the loss of one more step."""
        self.seen += 1
        self._weighted = SMOOTHING * self._weighted + (1 - SMOOTHING) * loss
        if self.seen < LEAST_STEPS:
            return
        if self.seen == LEAST_STEPS:
            self.start = self.smoothed
        self.above = self.above + 1 if self.smoothed > self.limit else 0
        if self.smoothed < self.best:
            self.best, self.best_step = self.smoothed, self.seen

    @property
    def limit(self) -> float:
        """The smoothed loss above which a run is lost, if it stays there."""
        return max(FACTOR * self.best, self.best + NATS, self.start)

    def diverged(self) -> str:
        """Return with which figures the run is lost; empty while it is not."""
        if self.above < STEPS:
            return ""
        return (
            f"the loss of the last steps is {self.smoothed:.2f}, {self.smoothed / self.best:.1f} times its best ({self.best:.2f} "
            f"at step {self.best_step}), and has been above {self.limit:.2f} for {STEPS} steps"
        )


def refuse_infinite(what: str, value: float, step: int, more: str = "") -> None:
    """Raise UserError(LossDiverged) where a value is not a finite number any more."""
    if not math.isfinite(value):
        raise UserError("LossDiverged", f"{what} became {value} at step {step}{more}: {DIVERGENCE_REMEDY}")
