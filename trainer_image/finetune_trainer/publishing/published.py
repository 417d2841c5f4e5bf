"""What card and manifest say about how a run went. Made by publish, read by artifacts and card.

It can be written down (finetune_contract.wire): a model may be published by another Pod than the one that trained it.
"""

from dataclasses import dataclass
from typing import Any

from finetune_contract import EvaluationResult, MetricResult

from finetune_trainer.publishing.spent import Spent
from finetune_trainer.runtime.speed import Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A metric, as the card shows it."""

    name: str
    results: tuple[MetricResult, ...]
    details: dict[str, Any]
    """What the figures do not show, such as which labels were confused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What is known of a run at its end."""

    evaluation: EvaluationResult | None = None
    """None where no rows were held out."""
    computation: str
    steps: int
    final_loss: float | None = None
    training_seconds: float
    speed: Speed
    spent: Spent | None = None
    """None where nothing was trained."""
    base_type: str = ""
    """model_type of the base model, as its config.json says it."""
    metrics: tuple[Shown, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    """What was logged at each step, and measured at each evaluation."""
