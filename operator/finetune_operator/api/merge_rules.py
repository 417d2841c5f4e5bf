"""What a job that merges adapters leaves out: whatever is about training and GPUs. Read by job_rules."""

from collections.abc import Callable

from finetune_operator.api.cel import Rule, default, untouched
from finetune_operator.api.fields import Model
from finetune_operator.api.spec import (
    CheckpointSpec,
    FineTuneJobSpec,
    LoraSpec,
    ResourcesSpec,
    TrainingSpec,
)

READS_ROWS = ("seed", "sequence_length", "over_length")
"""Of training: how the rows are split and cut, which the comparison needs."""


def left_out(field: str, cel: str, holds: Callable[[FineTuneJobSpec], bool]) -> Rule:
    """Return the rule that a job with mergeOf leaves a field out."""
    return Rule(
        cel=f"!has(self.mergeOf) || ({cel})",
        message="has no effect with mergeOf, which trains nothing and uses no GPU: remove it",
        holds=lambda spec: spec.merge_of is None or holds(spec),
        field=field,
        beside="mergeOf",
    )


def as_by_default(struct: Model, *fields: str) -> bool:
    """Say whether fields have their defaults."""
    return all(getattr(struct, field) == default(type(struct), field) for field in fields)


TRAINING_FIELDS = tuple(name for name in TrainingSpec.model_fields if name not in READS_ROWS)
RESOURCES_FIELDS = tuple(ResourcesSpec.model_fields)
LORA_FIELDS = tuple(LoraSpec.model_fields)
CHECKPOINT_FIELDS = ("interval_seconds", "keep")

MERGE_JOB = (
    left_out("method", "self.method in ['auto', 'lora']", lambda spec: spec.method in ("auto", "lora")),
    left_out("lora", untouched("self.lora", LoraSpec, *LORA_FIELDS), lambda spec: spec.lora == LoraSpec()),
    left_out(
        "training",
        untouched("self.training", TrainingSpec, *TRAINING_FIELDS),
        lambda spec: as_by_default(spec.training, *TRAINING_FIELDS),
    ),
    left_out(
        "resources",
        untouched("self.resources", ResourcesSpec, *RESOURCES_FIELDS),
        lambda spec: as_by_default(spec.resources, *RESOURCES_FIELDS),
    ),
    left_out(
        "checkpoint",
        untouched("self.checkpoint", CheckpointSpec, *CHECKPOINT_FIELDS),
        lambda spec: as_by_default(spec.checkpoint, *CHECKPOINT_FIELDS),
    ),
    left_out("evaluation.everySteps", "self.evaluation.everySteps == 0", lambda spec: spec.evaluation.every_steps == 0),
    left_out("trackers", "self.trackers.size() == 0", lambda spec: not spec.trackers),
    left_out("queueName", "!has(self.queueName)", lambda spec: spec.queue_name is None),
    left_out("priorityClassName", "!has(self.priorityClassName)", lambda spec: spec.priority_class_name is None),
    left_out(
        "runPolicy.activeDeadlineSeconds",
        "!has(self.runPolicy.activeDeadlineSeconds)",
        lambda spec: spec.run_policy.active_deadline_seconds is None,
    ),
)
