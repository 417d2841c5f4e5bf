"""What a worker has at hand, and what the callbacks of its training loop share. Made by worker and train."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from finetune_contract import RunConfig
from trl import SFTTrainer

from finetune_trainer.checkpoints.checkpoints import Checkpoints
from finetune_trainer.checkpoints.uploads import Uploads
from finetune_trainer.model.precision import Computation
from finetune_trainer.runtime.heartbeat import Heartbeat
from finetune_trainer.runtime.interrupt import Interrupt
from finetune_trainer.runtime.progress import Reporter
from finetune_trainer.runtime.speed import Padding, Speed, StepClock, speed_of
from finetune_trainer.training.evaluate import Answers
from finetune_trainer.training.patience import Patience


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a worker has at hand: where it may write, how it is heard, how it is told to stop."""

    workspace: Path
    device: str
    """cuda | cpu"""
    reporter: Reporter
    heartbeat: Heartbeat
    interrupt: Interrupt
    started: float = field(default_factory=time.monotonic)
    """When the first process of the Pod started, by the monotonic clock, which all processes of a machine share."""

    @property
    def seconds(self) -> float:
        """Return how long the Pod has run."""
        return time.monotonic() - self.started


@dataclass(slots=True, kw_only=True)
class Loop:
    """The state of one training loop that its callbacks share: each reads and writes it at its own moments."""

    run: RunConfig
    bench: Bench
    computation: Computation
    stored: torch.dtype
    """Of the base model's files, and of a model that is published."""
    checkpoints: Checkpoints
    uploads: Uploads
    patience: Patience
    """How early stopping stands; names the best slot, which is kept beside the newest checkpoints."""
    trainer: SFTTrainer = field(init=False)
    """Set once it is built: it takes the callbacks."""
    clock: StepClock = field(default_factory=StepClock)
    padding: Padding = field(default_factory=Padding)
    base: Answers | None = None
    """What was measured of the base model; None before that, or where the run has no baseline."""
    loading_peak_gib: float = 0.0
    """Largest memory of any one GPU before the first step: while weights arrive, and while the base model is measured."""
    precision: str = ""
    """What the tensors are stored and multiplied in, in words, as seen when training begins."""

    @property
    def speed(self) -> Speed:
        """How fast this attempt has trained so far."""
        return speed_of(self.clock, self.padding, self.run.layout)
