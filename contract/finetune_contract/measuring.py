"""How base and tuned model are measured and what was found: Evaluation and Metric go in, EvaluationResult comes out. Part of contract."""

from dataclasses import dataclass
from typing import Final

from finetune_contract.data import Dataset, Location

HELD_OUT_FRACTION: Final = 0.05
HELD_OUT_ROWS: Final = 200
SAMPLE_TOKENS: Final = 64
ANSWER_TOKENS: Final = 256
"""Defaults that the spec shares."""

LABEL, TOOL_CALL, JUDGE, LM_EVAL = "label", "toolCall", "judge", "lmEval"
GENERATING: Final = ("exactMatch", "contains", "regex", "numeric", "json", "rougeL", TOOL_CALL, JUDGE)
"""Types of metrics that look at generated answers; label compares the likelihoods of the labels, lmEval asks as its task says."""

FURTHER: Final = {LABEL: "macroF1", TOOL_CALL: "function"}
"""What a metric of a type measures beside its main figure. Its result is called `<name>.<this>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A model elsewhere that compares both answers."""

    endpoint: Location
    """Of an OpenAI-compatible API, such as https://api.openai.com/v1."""
    model: str
    criteria: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LmEval:
    """A task of lm-eval."""

    location: Location
    """Folder with its YAML file and its data."""
    revision: str = ""
    """Commit, tag or branch of a hub data set."""
    task: str
    metric: str = ""
    """`acc_norm`, or with a filter: `exact_match,strict-match`; empty: the first of the task."""
    limit: int = 0
    """Documents that are asked, from the first on; 0: all."""
    chat_template: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One way to judge answers."""

    name: str
    type: str
    """label, lmEval, or one of GENERATING"""
    source: Dataset | None = None
    """Rows of its own; None: the held-out rows."""
    ignore_case: bool = False
    ignore_punctuation: bool = False
    pattern: str = ""
    """Regular expression of type regex."""
    labels: tuple[str, ...] = ()
    """Of type label; empty: the different answers of the data."""
    schema: str = ""
    """JSON Schema of type json, as JSON text; empty: any JSON."""
    equal: bool = False
    """Of type json: the answer must hold the same values as the reference."""
    judge: Judge | None = None
    """Of type judge."""
    lm_eval: LmEval | None = None
    """Of type lmEval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The held-out measurement."""

    fraction: float = HELD_OUT_FRACTION
    max_examples: int = HELD_OUT_ROWS
    source: Dataset | None = None
    """A data set of its own instead of a fraction."""
    every_steps: int = 0
    """0: never while training (the planner fills in its cadence)."""
    baseline: bool = True
    metrics: tuple[Metric, ...] = ()
    max_answer_tokens: int = ANSWER_TOKENS
    """Of an answer that metrics judge."""
    prompts: tuple[str, ...] = ()
    max_new_tokens: int = SAMPLE_TOKENS
    gated: bool = False
    """A promotion gate rests on this evaluation, so fewer than 20 held-out rows are refused."""

    @property
    def further_sources(self) -> tuple[Dataset, ...]:
        """The data sets beside the held-out rows that metrics are measured on, each once."""
        found: list[Dataset] = []
        for metric in self.metrics:
            if metric.source is not None and metric.source not in found:
                found.append(metric.source)
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What base and tuned model say to one prompt."""

    prompt: str
    base: str
    tuned: str


Figure = tuple[float, ...]
"""A mean over rows and the ends of its 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricResult:
    """One metric on the same rows for both models."""

    name: str
    examples: int
    base: Figure | None = None
    tuned: Figure
    difference: Figure | None = None
    """tuned - base, row by row; None without a baseline."""
    rows_needed: int = 0
    """About how many rows would tell whether there is a difference, where these cannot; 0: these can, or no number would."""
    note: str = ""
    """What a reader of the figures must know, such as answers that were cut."""

    @property
    def verdict(self) -> str:
        """Say in words whether the tuned model is better; empty without a baseline."""
        if self.difference is None:
            return ""
        value, low, high = self.difference
        if low > 0 or high < 0:
            return "better" if low > 0 else "worse"
        if not self.rows_needed:
            return f"no difference found on {self.examples} rows"
        return f"{self.examples} rows are too few to tell: about {self.rows_needed:,} would, if the difference is {value:+.4g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """Base and tuned model on the same held-out rows. Losses are nats per trained token."""

    examples: int
    base_loss: float | None = None
    tuned_loss: float
    base_token_accuracy: float | None = None
    tuned_token_accuracy: float | None = None
    base_forgetting_loss: float | None = None
    """On the general text that ships with the trainer."""
    tuned_forgetting_loss: float | None = None
    metrics: tuple[MetricResult, ...] = ()
    samples: tuple[Sample, ...] = ()
