"""What comes out: progress lines, and one Outcome in the termination message. Part of contract."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from finetune_contract.measuring import EvaluationResult
from finetune_contract.names import PROGRESS_MARK, TERMINATION_MESSAGE_BYTES
from finetune_contract.wire import dumps, loads
from finetune_contract.words import harmless_fields

WARNING_LENGTHS = (400, 250, 150, 100)
"""To which the warnings of a preflight are cut, one after the other, until the outcome fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One line on the stdout of replica 0's rank 0."""

    phase: str
    """loading | baseline | training | evaluating | publishing"""
    step: int
    total_steps: int
    epoch: float = 0.0
    loss: float | None = None
    eval_loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    """Over all GPUs, padding not counted."""
    model_flop_utilisation: float | None = None
    """Of the peak of all GPUs; None on a CPU."""
    padding_share: float | None = None
    """Of the positions that rank 0's training micro batches computed."""
    seconds_remaining: int | None = None
    peak_memory_gib: float | None = None
    """Largest allocated memory of any one GPU so far; host RSS of the process on the CPU."""
    checkpoint_step: int | None = None
    """Step of the newest complete checkpoint."""
    first_step: int | None = None
    """Step of the checkpoint that this attempt went on from; None before that is known, and without one. In every line, for
    the operator reads some lines only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something published."""

    kind: str
    """adapter | model | merged | gguf-f16 | gguf-q8_0 | gguf-q4_k_m"""
    uri: str
    digest: str
    """sha256:HEX of what `find * -type f | LC_ALL=C sort | xargs sha256sum` prints in its folder"""
    size_bytes: int
    base_model: str = ""
    base_revision: str = ""
    lora_rank: int = 0
    servable: str = ""
    """Inference servers that load it as it is (engines.summary)."""
    checked: str = ""
    """What an exported form was compared with before it was published, and how near it came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightReport:
    """What preflight found; the plan rests on it."""

    run_digest: str
    model_revision: str
    model_config: dict[str, Any]
    """The keys of config.json that sizing needs; lists collapsed to counts."""
    model_bytes: int
    """Size of the weight files."""
    model_dtype: str = ""
    """bfloat16, float16 or float32: of most weights, so what a model made of this one is published in. Empty where an older preflight did
    not say."""
    dataset_digest: str
    examples: int
    evaluation_examples: int
    adapter_bytes: int = 0
    """Size of the weights of all adapters that are merged."""
    generated_answers: int = 0
    """That each model generates for evaluation.metrics."""
    label_answers: int = 0
    """Rows times labels whose likelihood each model computes."""
    task_tokens: int = 0
    """That each model reads for tasks of lm-eval: prompts, and a text for each answer whose likelihood is computed."""
    task_tokens_max: int = 0
    """Of the longest such text, with the longest answer to it."""
    tokens: int
    """Tokens of the training rows after truncation, one epoch."""
    trained_tokens: int
    """Those that the loss sees."""
    tokens_p50: int
    tokens_p99: int
    tokens_max: int
    length_step: int = 0
    """Tokens from one entry of rows_by_length to the next; 0 where an older preflight counted none."""
    rows_by_length: tuple[int, ...] = ()
    """Rows of 0 to length_step - 1 tokens, and so on; the last of 32 entries also has those that are longer."""
    truncated_rows: int
    dropped_rows: int
    masked_rows: int
    """Rows with no trained token left: dropped."""
    duplicates: int
    sampled: bool
    sequence_length: int
    packed_rows: int
    """Rows after best-fit packing at that length."""
    prepared_uri: str = ""
    preview_uri: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The verdict of one container, in its termination message."""

    outcome: str
    """Succeeded | Failed | Preempted"""
    reason: str
    """A constant of finetune_operator.api.reasons."""
    message: str
    step: int = 0
    """Last finished step."""
    checkpoint_step: int | None = None
    checkpoint_uri: str = ""
    peak_memory_gib: float | None = None
    """Largest allocated memory of any one GPU from the first step on."""
    peak_reserved_gib: float | None = None
    loading_peak_gib: float | None = None
    """Largest allocated memory of any one GPU before the first step: loading, and measuring the base model."""
    tokens_per_second: float | None = None
    model_flop_utilisation: float | None = None
    padding_share: float | None = None
    training_seconds: float | None = None
    final_loss: float | None = None
    evaluation: EvaluationResult | None = None
    artifacts: tuple[Artifact, ...] = ()
    preflight: PreflightReport | None = None


def progress_line(progress: Progress) -> str:
    """Return the stdout line of a progress report, without a newline."""
    return '{"finetune":"' + PROGRESS_MARK + '",' + dumps(progress)[1:]


def parse_progress(line: str) -> Progress | None:
    """Read a progress report from a log line; None for any other text."""
    if not line.startswith('{"finetune":"' + PROGRESS_MARK + '",'):
        return None
    try:
        data = json.loads(line)
        del data["finetune"]
        return harmless_fields(loads(Progress, json.dumps(data)))
    except ValueError:
        return None


def parse_outcome(text: str) -> Outcome | None:
    """Read an outcome from a termination message; None where it is not one (a traceback, an empty string).

    Messages quote data and samples quote models: what a terminal would obey is spelled out.
    """
    try:
        return harmless_fields(loads(Outcome, text))
    except ValueError:
        return None


def outcome_text(outcome: Outcome) -> str:
    """Return the JSON of an outcome, cut down until it fits a termination message.

    First the samples go and the notes on metrics, then preflight warnings are cut and at last left out, then the message is shortened
    from the middle: what is left is always valid JSON of at most TERMINATION_MESSAGE_BYTES bytes.
    """
    for candidate in _shrinking(outcome):
        text = dumps(candidate)
        if len(text.encode()) <= TERMINATION_MESSAGE_BYTES:
            return text
    raise ValueError("an outcome without its message is still larger than a termination message")


def _shrinking(outcome: Outcome) -> Iterator[Outcome]:
    yield outcome
    if (evaluation := outcome.evaluation) is not None:
        bare = tuple(replace(metric, note="") for metric in evaluation.metrics)
        for shorter in (replace(evaluation, samples=()), replace(evaluation, samples=(), metrics=bare)):
            outcome = replace(outcome, evaluation=shorter)
            yield outcome
    if (preflight := outcome.preflight) is not None:
        for warnings in (*(_shortened(preflight.warnings, length) for length in WARNING_LENGTHS), ()):
            outcome = replace(outcome, preflight=replace(preflight, warnings=warnings))
            yield outcome
    for length in (2000, 1000, 500, 200, 50, 0):
        yield replace(outcome, message=shorten(outcome.message, length))


def _shortened(warnings: tuple[str, ...], length: int) -> tuple[str, ...]:
    """All of them, the beginning and end of each: one that is cut says more than one that is gone."""
    return tuple(shorten(warning, length) for warning in warnings)


def shorten(text: str, length: int) -> str:
    """Cut a text to `length` characters from the middle: its beginning says what, its end says what to do."""
    if len(text) <= length:
        return text
    half = max(0, (length - 5) // 2)
    return (text[:half] + " ... " + text[len(text) - half :])[:length] if half else text[:length]
