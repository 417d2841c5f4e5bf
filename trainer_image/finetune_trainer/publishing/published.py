"""What card and manifest say about how a run went. Made by train, read by artifacts and card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_contract import EvaluationResult

from finetune_trainer.evaluation.results import Judged
from finetune_trainer.publishing.spent import Spent
from finetune_trainer.runtime.speed import Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What is known of a run at its end."""

    evaluation: EvaluationResult | None
    computation: str
    steps: int
    final_loss: float | None
    training_seconds: float
    speed: Speed
    spent: Spent | None = None
    """None where nothing was trained."""
    base_type: str = ""
    """model_type of the base model, as its config.json says it."""
    metrics: tuple[Judged, ...] = ()
    history: Sequence[Mapping[str, Any]] = ()
    """What was logged at each step, and measured at each evaluation."""
