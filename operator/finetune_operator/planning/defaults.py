"""From the spec to the resolved spec: what depends on objective, method, model size or data (static defaults: spec.py).

Called by planning.planner once preflight has looked at model and data; the result is pinned as status.resolved.
"""

import math
from dataclasses import dataclass

from finetune_operator.api.locations import checkpoints_beside, keeps_checkpoints
from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.resolved import Method, ResolvedCheckpoint, ResolvedLora, ResolvedSpec, ResolvedTraining
from finetune_operator.api.spec import CheckpointSpec, FineTuneJobSpec, LoraSpec, ModelSpec, OutputSpec
from finetune_operator.errors import JobError
from finetune_operator.planning.models.attention import can_lie_end_to_end, no_varlen

STEPS_AIMED_AT = 200
"""The default global batch makes a run of about so many steps: enough for the schedule, not more communication."""

SMALLEST_BATCH, LARGEST_BATCH = 8, 64
FEWEST_PACKED_ROWS = 200
"""Packing is off below: a run of a few dozen packed rows would have hardly any steps."""

PACKING_PAYS = 0.75
"""Packing must save a quarter of the rows; less is not worth fewer rows to shuffle."""

LONGEST_MASKED_ROW = 8192
"""Of packed rows where variable-length attention does not serve the model: they get a dense mask, and attention works on all of it,
which costs more than packing saves past this length."""

LARGE_MODEL = 30_000_000_000
SMALL_MODEL = 3_500_000_000
"""What is sold as 3B has up to 3.5 billion parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveDefaults:
    """What an objective sets by default."""

    learning_rate_adapter: str
    learning_rate_adapter_large: str
    learning_rate_full: str
    learning_rate_full_small: str
    epochs: int
    weight_decay: str


OBJECTIVES = {
    "sft": ObjectiveDefaults(
        learning_rate_adapter="2e-4", learning_rate_adapter_large="1e-4",
        learning_rate_full="1e-5", learning_rate_full_small="2e-5", epochs=3, weight_decay="0.0",
    ),
    "cpt": ObjectiveDefaults(
        learning_rate_adapter="1e-4", learning_rate_adapter_large="1e-4",
        learning_rate_full="1e-5", learning_rate_full_small="1e-5", epochs=1, weight_decay="0.1",
    ),
}  # fmt: skip


def resolve(
    spec: FineTuneJobSpec, *, method: Method, architecture: ModelArchitecture, preflight: PreflightStatus
) -> ResolvedSpec:
    """Return the spec with every default filled in; what the user set stays as it is.

    The planner replaces three values by its own: globalBatchSize where it was a default and must be rounded,
    evaluation.everySteps and checkpoint.intervalSeconds where they are 0.
    Raises JobError (InvalidSpec) when a checkpoint has no place to go, or packing is asked of a model that cannot.
    """
    if spec.training.packing == "always" and not can_lie_end_to_end(architecture):
        raise JobError(
            "InvalidSpec",
            f"spec.training.packing always does not work with {architecture.model_type}, whose linear attention cannot separate rows: "
            "set it to auto or never",
        )
    chosen = {
        "model": _model(spec.model, preflight),
        "method": method,
        "lora": None if method == "full" else _lora(spec.lora),
        "training": _training(spec, method, architecture, preflight),
        "checkpoint": checkpoint_of(spec.checkpoint, spec.output),
        "output": _output(spec.output, method),
    }
    return ResolvedSpec(**{**dict(spec), **chosen})


def packs(spec: FineTuneJobSpec, preflight: PreflightStatus, architecture: ModelArchitecture) -> bool:
    """Tell whether several rows share a sequence. Decided before the batch size, which counts packed rows."""
    if not can_lie_end_to_end(architecture):
        return False
    match spec.training.packing:
        case "always":
            return preflight.packed_rows > 0
        case "never":
            return False
        case "auto":
            return packing_pays(preflight, architecture)


def packing_pays(preflight: PreflightStatus, architecture: ModelArchitecture) -> bool:
    """Tell whether packing saves enough rows, leaves enough of them, and keeps attention affordable."""
    enough = FEWEST_PACKED_ROWS <= preflight.packed_rows <= PACKING_PAYS * preflight.examples
    return enough and (preflight.sequence_length <= LONGEST_MASKED_ROW or not no_varlen(architecture))


def training_rows(spec: FineTuneJobSpec, preflight: PreflightStatus, architecture: ModelArchitecture) -> int:
    """Return the rows that one epoch shows to the optimizer."""
    return max(1, preflight.packed_rows if packs(spec, preflight, architecture) else preflight.examples)


def default_global_batch_size(rows: int, epochs: int) -> int:
    """Return the power of two nearest to rows x epochs / 200, between 8 and 64 and at most the rows there are."""
    wanted = min(max(rows * epochs / STEPS_AIMED_AT, SMALLEST_BATCH), LARGEST_BATCH)
    below = 2 ** math.floor(math.log2(wanted))
    nearest = below if wanted - below <= 2 * below - wanted else 2 * below
    return int(min(nearest, 2 ** math.floor(math.log2(rows))))


def learning_rate(objective: str, method: Method, num_parameters: int) -> str:
    """Return the default peak learning rate."""
    defaults = OBJECTIVES[objective]
    if method == "full":
        small = num_parameters <= SMALL_MODEL
        return defaults.learning_rate_full_small if small else defaults.learning_rate_full
    large = num_parameters >= LARGE_MODEL
    return defaults.learning_rate_adapter_large if large else defaults.learning_rate_adapter


def _model(model: ModelSpec, preflight: PreflightStatus) -> ModelSpec:
    """Only a hub has revisions; elsewhere preflight reports a digest, which is not something to ask for."""
    if not model.source.startswith("hf://"):
        return model
    return model.model_copy(update={"revision": preflight.model_revision or None})  # `finetune plan` has no preflight


def _lora(lora: LoraSpec) -> ResolvedLora:
    """Rank-stabilised LoRA divides by the root of the rank, so twice the rank would scale by 8 at rank 16."""
    default = lora.rank if lora.variant == "rslora" else 2 * lora.rank
    return ResolvedLora(**{**dict(lora), "alpha": default if lora.alpha is None else lora.alpha})


def _output(output: OutputSpec, method: Method) -> OutputSpec:
    """A full fine-tune publishes a whole model, so there is nothing to merge."""
    if method != "full" or output.exports is None:
        return output
    return output.model_copy(update={"exports": [form for form in output.exports if form != "merged"] or None})


def _training(
    spec: FineTuneJobSpec, method: Method, architecture: ModelArchitecture, preflight: PreflightStatus
) -> ResolvedTraining:
    asked, defaults = spec.training, OBJECTIVES[spec.objective]
    rows, epochs = training_rows(spec, preflight, architecture), asked.epochs or defaults.epochs
    batch = asked.global_batch_size or default_global_batch_size(rows, epochs)
    filled = {
        "epochs": epochs if asked.max_steps is None else math.ceil(asked.max_steps * batch / rows),
        "learning_rate": asked.learning_rate or learning_rate(spec.objective, method, architecture.num_parameters),
        "scheduler": asked.scheduler or "cosine",
        "weight_decay": defaults.weight_decay if asked.weight_decay is None else asked.weight_decay,
        "global_batch_size": batch,
        "sequence_length": asked.sequence_length or preflight.sequence_length,
        "packing": "always" if packs(spec, preflight, architecture) else "never",
        "precision": _precision(asked.precision, method),
        "optimizer": "adamw" if asked.optimizer == "auto" else asked.optimizer,
        "neftune_alpha": asked.neftune_alpha or "0",
    }
    return ResolvedTraining(**{**dict(asked), **filled})


def _precision(asked: str, method: Method) -> str:
    """Pure bfloat16 weights do not move at fine-tuning learning rates, so full fine-tuning keeps float32 masters."""
    if asked != "auto":
        return asked
    return "mixed" if method == "full" else "bf16"


def checkpoint_of(asked: CheckpointSpec, output: OutputSpec) -> ResolvedCheckpoint:
    """Return where checkpoints go: beside the output, with its Secret, unless the spec names a place."""
    if asked.destination is None and not keeps_checkpoints(output.destination):
        raise JobError(
            "InvalidSpec",
            "spec.checkpoint.destination is required because the output is on a hub or in a registry, which cannot store checkpoints: "
            "set it to a folder at s3://, gs://, az:// or pvc://",
        )
    destination = asked.destination or checkpoints_beside(output.destination)
    credentials = asked.credentials or output.credentials
    return ResolvedCheckpoint(**{**dict(asked), "destination": destination, "credentials": credentials})
