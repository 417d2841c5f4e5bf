"""Rules between the parts of a FineTuneJob: what method, objective and places allow. What freezes once it runs is in freeze."""

from finetune_contract import LM_EVAL

from finetune_operator.api.cel import Rule, default, quoted, untouched
from finetune_operator.api.data import ChatSpec, DatasetSpec
from finetune_operator.api.data_rules import CHAT, DATASET, LM_EVAL_TASK
from finetune_operator.api.evaluation import EvaluationSpec, GateSpec, LmEvalSpec, MetricGateSpec, MetricSpec
from finetune_operator.api.evaluation_rules import EVALUATION, EVALUATION_ON, GATE, METRIC, METRIC_GATE, evaluates
from finetune_operator.api.fields import Model
from finetune_operator.api.locations import CHECKPOINT_FOLDER, WITHOUT_CHECKPOINTS, keeps_checkpoints
from finetune_operator.api.merge_rules import MERGE_JOB
from finetune_operator.api.merging import MERGE_OF, MERGED_ADAPTER, MergedAdapterSpec, MergeOfSpec
from finetune_operator.api.pools import GPUPoolSpec, Toleration
from finetune_operator.api.rules import (
    CHECKPOINT,
    LORA,
    MODEL,
    OUTPUT,
    POOL,
    RESOURCES,
    TOLERATION,
    TRAINING,
)
from finetune_operator.api.spec import (
    CheckpointSpec,
    FineTuneJobSpec,
    LoraSpec,
    ModelSpec,
    OutputSpec,
    ResourcesSpec,
    TrainingSpec,
)
from finetune_operator.api.trackers import TRACKER, TrackerSpec

NAME_LENGTH = 52
"""A label has 63 characters; names of Pods and Services add attempt and replica to the job's."""

NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_MESSAGE = (
    "must be at most 52 lower-case letters, digits and -, starting with a letter and not ending with -,"
    " because names of Pods and Services are built from it"
)

UNTOUCHED_LORA = untouched(
    "self.lora", LoraSpec, *(name for name in LoraSpec.model_fields if name != "initial_adapter_credentials")
)
"""Credentials belong to an initial adapter, by a rule of their own."""


def uses_plain_text(dataset: DatasetSpec) -> bool:
    """Say whether a dataset can be read as plain text."""
    columns = dataset.columns
    return dataset.format in ("auto", "text") and (
        columns is None or (columns.messages, columns.prompt, columns.completion, columns.system) == (None,) * 4
    )


def plain_text_cel(dataset: str) -> str:
    """Return `uses_plain_text` in CEL."""
    named = " || ".join(f"has({dataset}.columns.{c})" for c in ("messages", "prompt", "completion", "system"))
    read = f"(!has({dataset}.format) || {dataset}.format in ['auto', 'text'])"  # entries of lists have no defaults
    return f"{read} && (!has({dataset}.columns) || !({named}))"


CPT_TEXT = "objective cpt trains on plain text: set format to text, and remove all columns but text"

CPT = (
    Rule(
        cel=f"self.objective != 'cpt' || self.datasets.all(d, {plain_text_cel('d')})",
        message=CPT_TEXT,
        holds=lambda spec: spec.objective != "cpt" or all(uses_plain_text(data) for data in spec.datasets),
        field="datasets",
        beside="objective",
    ),
    Rule(
        cel=f"self.objective != 'cpt' || !has(self.evaluation.source) || ({plain_text_cel('self.evaluation.source')})",
        message=CPT_TEXT,
        holds=lambda spec: (
            spec.objective != "cpt" or spec.evaluation.source is None or uses_plain_text(spec.evaluation.source)
        ),
        field="evaluation.source",
        beside="objective",
    ),
    Rule(
        cel="self.objective != 'cpt' || !has(self.evaluation.metrics) || self.evaluation.metrics.all(m, m.type == 'lmEval')",
        message="objective cpt has no answers to score: use metrics of type lmEval only, or objective sft",
        holds=lambda spec: (
            spec.objective != "cpt" or all(metric.type == LM_EVAL for metric in spec.evaluation.metrics or ())
        ),
        field="evaluation.metrics",
        beside="objective",
    ),
    Rule(
        cel=f"self.objective != 'cpt' || ({untouched('self.chat', ChatSpec, *ChatSpec.model_fields)})",
        message="objective cpt does not use chat settings: remove chat, or use objective sft",
        holds=lambda spec: spec.objective != "cpt" or spec.chat == ChatSpec(),
        field="chat",
        beside="objective",
    ),
    Rule(
        cel=f"self.objective != 'cpt' || {untouched('self.training', TrainingSpec, 'over_length')}",
        message="objective cpt splits long documents without losing text: remove overLength",
        holds=lambda spec: spec.objective != "cpt" or spec.training.over_length == default(TrainingSpec, "over_length"),
        field="training.overLength",
        beside="objective",
    ),
)

METHODS = (
    Rule(
        cel="self.method != 'full' || !has(self.output.exports) || !('merged' in self.output.exports)",
        message="method full publishes a whole model, so there is nothing to merge: remove merged",
        holds=lambda spec: spec.method != "full" or "merged" not in (spec.output.exports or ()),
        field="output.exports",
        beside="method",
    ),
    Rule(
        cel=f"self.method != 'full' || ({UNTOUCHED_LORA})",
        message="method full trains all weights without an adapter: remove lora, or use method lora or qlora",
        holds=lambda spec: spec.method != "full" or spec.lora == LoraSpec(),
        field="lora",
        beside="method",
    ),
    Rule(
        cel="self.method == 'full' || self.resources.offload in ['auto', 'none']",
        message="offload applies to method full only: set resources.offload to auto or none",
        holds=lambda spec: spec.method == "full" or spec.resources.offload in ("auto", "none"),
        field="resources.offload",
        beside="method",
    ),
    Rule(
        cel="self.method != 'qlora' || self.training.precision != 'mixed'",
        message="method qlora does not support precision mixed: set precision to auto or bf16",
        holds=lambda spec: spec.method != "qlora" or spec.training.precision != "mixed",
        field="training.precision",
        beside="method",
    ),
    Rule(
        cel="self.method != 'qlora' || !self.lora.experts",
        message="method qlora cannot adapt experts: use method lora, or set experts to false",
        holds=lambda spec: spec.method != "qlora" or not spec.lora.experts,
        field="lora.experts",
        beside="method",
    ),
    Rule(
        cel=f"!has(self.training.earlyStopping) || {EVALUATION_ON.replace('self.', 'self.evaluation.')}",
        message='earlyStopping requires an evaluation: set evaluation.fraction above "0" or set evaluation.source,'
        " or remove earlyStopping",
        holds=lambda spec: spec.training.early_stopping is None or evaluates(spec.evaluation),
        field="training.earlyStopping",
    ),
    Rule(
        cel="!has(self.training.earlyStopping) || self.lora.variant != 'adalora'",
        message="variant adalora follows a schedule over all steps: remove earlyStopping, or use another lora.variant",
        holds=lambda spec: spec.training.early_stopping is None or spec.lora.variant != "adalora",
        field="training.earlyStopping",
    ),
    Rule(
        cel="self.datasets.all(d, has(d.weight)) || !self.datasets.exists(d, has(d.weight))",
        message="some datasets have a weight and some do not: set a weight on all of them, or on none",
        holds=lambda spec: len({data.weight is None for data in spec.datasets}) == 1,
        field="datasets",
    ),
)


INPUTS = (
    "[self.model.source] + self.datasets.map(d, d.source)"
    " + (has(self.evaluation.source) ? [self.evaluation.source.source] : [])"
    " + (has(self.evaluation.metrics) ? self.evaluation.metrics.filter(m, has(m.source)).map(m, m.source.source) : [])"
    " + (has(self.evaluation.metrics) ? self.evaluation.metrics.filter(m, has(m.lmEval)).map(m, m.lmEval.source) : [])"
    " + (has(self.lora.initialAdapter) ? [self.lora.initialAdapter] : [])"
    " + (has(self.mergeOf) ? self.mergeOf.adapters.map(a, a.source) : [])"
)


def inputs(spec: FineTuneJobSpec) -> set[str]:
    """Return the places that a job reads from, without a slash at the end."""
    evaluation = [spec.evaluation.source.source] if spec.evaluation.source is not None else []
    evaluation += [metric.source.source for metric in spec.evaluation.metrics or () if metric.source is not None]
    evaluation += [metric.lm_eval.source for metric in spec.evaluation.metrics or () if metric.lm_eval is not None]
    adapter = [spec.lora.initial_adapter] if spec.lora.initial_adapter is not None else []
    adapter += [one.source for one in spec.merge_of.adapters] if spec.merge_of is not None else []
    return {
        place.rstrip("/") for place in (spec.model.source, *(d.source for d in spec.datasets), *evaluation, *adapter)
    }


def apart(field: str) -> str:
    """Return in CEL: nothing is read from this place. Destinations have no slash at the end, sources may."""
    return f"!({INPUTS}).exists(place, place == {field} || place == {field} + '/')"


PLACES = (
    Rule(
        cel=apart("self.output.destination"),
        message="the output would overwrite the model, data or adapter that the job reads: choose another folder",
        holds=lambda spec: spec.output.destination not in inputs(spec),
        field="output.destination",
    ),
    Rule(
        cel=f"!has(self.checkpoint.destination) || {apart('self.checkpoint.destination')}",
        message="checkpoints would be written into the model, data or adapter that the job reads: choose another folder",
        holds=lambda spec: spec.checkpoint.destination is None or spec.checkpoint.destination not in inputs(spec),
        field="checkpoint.destination",
    ),
    Rule(
        cel=f"!self.output.destination.matches('^({'|'.join(WITHOUT_CHECKPOINTS)})://')"
        " || has(self.checkpoint.destination)",
        message="is required if the output is hf:// or oci://, because checkpoints are not stored on a hub or in a registry: set a folder"
        " at s3://, gs://, az:// or pvc://",
        holds=lambda spec: keeps_checkpoints(spec.output.destination) or spec.checkpoint.destination is not None,
        field="checkpoint.destination",
    ),
    Rule(
        cel="!has(self.checkpoint.destination) || self.checkpoint.destination != self.output.destination",
        message=f"is the same as the output: choose another folder, or remove it to use {CHECKPOINT_FOLDER} in the output folder",
        holds=lambda spec: spec.checkpoint.destination != spec.output.destination,
        field="checkpoint.destination",
    ),
)  # fmt: skip

STRUCT_RULES: dict[type[Model], tuple[Rule, ...]] = {
    ModelSpec: MODEL,
    DatasetSpec: DATASET,
    ChatSpec: CHAT,
    LoraSpec: LORA,
    TrainingSpec: TRAINING,
    MergedAdapterSpec: MERGED_ADAPTER,
    MergeOfSpec: MERGE_OF,
    EvaluationSpec: EVALUATION,
    TrackerSpec: TRACKER,
    MetricSpec: METRIC,
    LmEvalSpec: LM_EVAL_TASK,
    GateSpec: GATE,
    MetricGateSpec: METRIC_GATE,
    ResourcesSpec: RESOURCES,
    OutputSpec: OUTPUT,
    CheckpointSpec: CHECKPOINT,
    FineTuneJobSpec: (*METHODS, *CPT, *PLACES, *MERGE_JOB),
    Toleration: TOLERATION,
    GPUPoolSpec: POOL,
}


def name_rule() -> dict[str, str]:
    """Return the rule of a job's name."""
    cel = f"self.metadata.name.size() <= {NAME_LENGTH} && self.metadata.name.matches({quoted(NAME_PATTERN)})"
    return {"rule": cel, "message": NAME_MESSAGE, "fieldPath": ".metadata.name"}
