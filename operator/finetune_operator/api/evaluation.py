"""The part of FineTuneJob.spec that says how base and tuned model are compared, and what promotes the tuned one. Part of spec."""

from typing import Annotated, Literal

from finetune_contract import ANSWER_TOKENS, HELD_OUT_FRACTION, HELD_OUT_ROWS, SAMPLE_TOKENS
from pydantic import StringConstraints

from finetune_operator.api.cel import ONE_LINE, Checked
from finetune_operator.api.data import Credentials, DatasetSpec
from finetune_operator.api.fields import UNIQUE, Model, between, items
from finetune_operator.api.locations import Source
from finetune_operator.api.values import (
    Endpoint,
    HalfFraction,
    LabelText,
    MetricName,
    MetricTarget,
    Prompt,
    Revision,
    Share,
    TaskMetric,
    TaskName,
)

MetricType = Literal[
    "label", "exactMatch", "contains", "regex", "numeric", "json", "rougeL", "toolCall", "judge", "lmEval"
]


class JudgeSpec(Model):
    """A model elsewhere that compares the answers of both models. Prompts, references and answers are sent to it."""

    endpoint: Endpoint
    """Base URL of an OpenAI-compatible API, such as https://api.openai.com/v1."""
    model: Annotated[str, StringConstraints(min_length=1, max_length=256), Checked(ONE_LINE)]
    """Name of the model that judges."""
    credentials: Credentials | None = None
    """Secret with the key OPENAI_API_KEY. Default: no key is sent."""
    criteria: Annotated[str, StringConstraints(max_length=2048)] = ""
    """What makes an answer better, in words. Default: correct, complete, relevant and short."""


class LmEvalSpec(Model):
    """A task of lm-evaluation-harness (lm-eval) from your own files. Nothing is fetched from a hub, and no code of the task is run."""

    source: Source
    """Folder with the task's YAML file and its data, at s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://ACCOUNT/CONTAINER/PREFIX,
    pvc://CLAIM/PATH or file:///PATH (local cluster only), an artifact at oci://HOST/REPOSITORY:TAG, or a dataset on the hub:
    hf://ORG/NAME."""
    revision: Revision | None = None
    """Commit, tag or branch of a hub dataset."""
    credentials: Credentials | None = None
    """Secret with the credentials for reading source."""
    task: TaskName
    """Name of the task, as its YAML file says."""
    metric: TaskMetric | None = None
    """Metric of the task that counts, such as acc_norm, or with the name of a filter: "exact_match,strict-match". Default: the first in
    the task's metric_list, after its first filter."""
    limit: Annotated[int, between(1, 1_000_000)] | None = None
    """Measure on the first N documents only. Default: all."""
    prompts: Literal["text", "chat"] = "text"
    """How documents are asked: as the text of the task's templates, or through the chat template (chat), with the examples as turns and
    with chat.systemPrompt, as lm_eval --apply_chat_template does."""


class MetricSpec(Model):
    """A way to score answers, from 0 to 1. Base and tuned model answer the same rows; the answers are published beside the result."""

    type: MetricType
    """What makes an answer right. label: the row's label is the most likely one (macro F1 as NAME.macroF1). exactMatch: it is the row's
    answer. contains: it contains the row's answer. regex: pattern finds the same in both. numeric: both have the same result. json: it is
    valid JSON. rougeL: overlap of words. toolCall: the same calls with the same arguments (functions alone as NAME.function). judge:
    another model prefers it to the base model's. lmEval: a task of lm-eval says so, on its own documents."""
    name: MetricName | None = None
    """Name in status and gate. Default: the type."""
    source: DatasetSpec | None = None
    """Rows to measure on, instead of the held-out rows: general questions, for example, to notice forgetting."""
    labels: Annotated[list[LabelText], items("set", least=2, most=50), UNIQUE] | None = None
    """Labels of type label. Default: the different answers of the data, at most 50."""
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    """Regular expression of type regex. With a group, what the group finds must be the same as in the row's answer."""
    # `schema` would hide pydantic's own
    json_schema: Annotated[str, StringConstraints(min_length=2, max_length=8192)] | None = None
    """JSON Schema of type json, as JSON text. Default: any JSON."""
    values: Literal["any", "equal"] = "any"
    """Values that the JSON of type json may hold: any, or the same as the row's answer (equal)."""
    judge: JudgeSpec | None = None
    """Model that compares both answers, of type judge."""
    lm_eval: LmEvalSpec | None = None
    """Task of type lmEval."""
    ignore: Annotated[list[Literal["case", "punctuation"]], items("set", least=1, most=2), UNIQUE] | None = None
    """Differences that types exactMatch, contains and regex ignore: case, or punctuation. White space never counts."""


class MetricGateSpec(Model):
    """What a metric must reach. The lower end of its 95 % interval counts, so that a lucky result on few rows does not pass."""

    metric: MetricTarget
    """Name of the metric, or of its further figure such as label.macroF1."""
    min_value: Share | None = None
    """The tuned model must reach at least this: a decimal in quotes such as "0.85"."""
    min_improvement: Share | None = None
    """The tuned model must be better than the base model by at least this: a decimal in quotes such as "0.05"."""
    max_regression: Share | None = None
    """The tuned model may be worse than the base model by at most this: a decimal in quotes such as "0.02"."""


class GateSpec(Model):
    """What the tuned model needs to be promoted. Everything that is set must hold."""

    min_relative_loss_improvement: Share | None = None
    """Minimum relative improvement of the held-out loss, (base - tuned) / base: a decimal in quotes such as "0.02"."""
    metrics: Annotated[list[MetricGateSpec], items("atomic", least=1, most=16)] | None = None
    """What the metrics must reach."""


class SamplesSpec(Model):
    """Prompts that the base and the tuned model answer after training."""

    prompts: Annotated[list[Prompt], items("atomic", least=1, most=8)]
    """Prompts; both models answer each one."""
    max_new_tokens: Annotated[int, between(1, 1024)] = SAMPLE_TOKENS
    """Maximum length of an answer in tokens."""


class EvaluationSpec(Model):
    """How the base and the tuned model are compared on held-out rows."""

    fraction: HalfFraction = str(HELD_OUT_FRACTION)
    """Fraction of the rows to hold out, selected by row hash: a decimal in quotes. "0" turns evaluation off."""
    source: DatasetSpec | None = None
    """A separate dataset to evaluate on, instead of a fraction of the training data."""
    max_examples: Annotated[int, between(1, 100_000)] = HELD_OUT_ROWS
    """Maximum number of held-out rows."""
    every_steps: Annotated[int, between(0, 100_000_000)] = 0
    """Evaluate every N steps. 0 means about 20 times per run."""
    baseline: bool = True
    """Also evaluate the base model before training."""
    metrics: Annotated[list[MetricSpec], items("atomic", least=1, most=8)] | None = None
    """Ways to score what the base and the tuned model answer to the held-out rows. Default: losses only."""
    max_answer_tokens: Annotated[int, between(1, 8192)] = ANSWER_TOKENS
    """Maximum length in tokens of an answer that metrics score. Longer answers are cut."""
    gate: GateSpec | None = None
    """What the tuned model must reach; sets the condition Promoted."""
    samples: SamplesSpec | None = None
    """Prompts that the base and the tuned model answer after training."""
