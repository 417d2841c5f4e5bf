"""What `finetune get` prints: jobs as a table of any width, or one job in words. Pure."""

import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime

from finetune_operator.api.meta import Condition
from finetune_operator.api.published import EvaluationStatus, SampleStatus
from finetune_operator.api.reasons import ConditionType
from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.job_text import (
    COLUMNS,
    attempt_line,
    condition_lines,
    ended,
    export_lines,
    memory_text,
    metric_lines,
    row,
    speed_text,
)
from finetune_operator.cli.tables import fitted

SHORTENED = "MODEL"
DROPPED = ("PLAN", "LOSS", "MODEL", "PROGRESS", "COST", "REASON")
"""In this order, where a terminal is narrow."""

LABEL = 12
CONTINUED = 7
"""Where the lines of conditions, attempts, warnings and samples go on."""

NARROWEST = 40
LONGEST_ANSWER = 400


def listing(jobs: Sequence[ReportedJob], now: datetime, *, width: int, namespaces: bool) -> list[str]:
    """Return jobs as a table; width 0: whole values, whatever that takes."""
    titles = (*(["NAMESPACE"] if namespaces else []), *COLUMNS)
    rows = [(*([job.metadata.namespace] if namespaces else []), *row(job, now)) for job in jobs]
    return fitted([titles, *rows], width, shorten=SHORTENED, drop=DROPPED)


def details(job: ReportedJob, now: datetime) -> str:
    """Return everything worth knowing about one job, as lines."""
    return "\n".join([*_facts(job, now), *_conditions(job), *_attempts(job), *_warnings(job), *_samples(job)])


def wrapped(text: str, width: int) -> str:
    """Return lines that fit a terminal, each continued under its value; width 0: as they are."""
    return "\n".join(part for line in text.split("\n") for part in _wrapped(line, width)) if width else text


def _wrapped(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = CONTINUED if line.startswith("  ") and line[:LABEL].strip() else LABEL
    return textwrap.wrap(
        line, max(width, NARROWEST), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def _facts(job: ReportedJob, now: datetime) -> Iterator[str]:
    status = job.status
    values = dict(zip(COLUMNS, row(job, now), strict=True)) | {"MODEL": job.spec.model.source}
    yield from (f"{name.capitalize():<{LABEL}}{value}" for name, value in values.items() if value)
    told = {
        "Result": status.adapter_uri or "",
        "Exports": f"\n{'':<{LABEL}}".join(export_lines(status)),
        "Speed": speed_text(status.progress) if status.progress and status.progress.tokens_per_second else "",
        "Memory": memory_text(status.memory) if status.memory else "",
        "Evaluation": evaluation_text(status.evaluation) if status.evaluation else "",
    }
    yield from (f"{name:<{LABEL}}{value}" for name, value in told.items() if value)
    metrics = status.evaluation.metrics if status.evaluation else []
    yield from (f"{'':<{LABEL}}{text}" for metric in metrics for text in metric_lines(metric))


def evaluation_text(measured: EvaluationStatus) -> str:
    """Return how much better the tuned model is, in words: of the loss, the perplexity and the tokens that it predicts."""
    rows = f"on {measured.examples:,} held-out row{'' if measured.examples == 1 else 's'}"
    if measured.base_loss is None:  # evaluation.baseline: false
        return f"loss {measured.tuned_loss} {rows}; the base model was not measured"
    verdict = improvement_text(100 * float(measured.relative_improvement or 0))
    words = [f"{verdict} {rows}: loss {measured.base_loss} before, {measured.tuned_loss} after"]
    if measured.base_token_accuracy and measured.tuned_token_accuracy:
        before, after = (100 * float(each) for each in (measured.base_token_accuracy, measured.tuned_token_accuracy))
        words.append(f"predicts {after:.0f} % of the tokens (before {before:.0f} %)")
    if measured.base_forgetting_loss and measured.tuned_forgetting_loss:
        words.append(
            f"loss on general text {measured.base_forgetting_loss} before, {measured.tuned_forgetting_loss} after"
        )
    return "; ".join(words)


def improvement_text(percent: float) -> str:
    """Return a relative improvement in words: 7 % better, 0.3 % worse, the same."""
    size = f"{abs(percent):.0f}" if abs(percent) >= 1 else f"{abs(percent):.1f}"
    return "the same" if float(size) == 0 else f"{size} % {'better' if percent > 0 else 'worse'}"


def _conditions(job: ReportedJob) -> list[str]:
    """Return the conditions that say more than the lines above them."""
    told = informative(job)
    return ["", "Conditions", *condition_lines(told)] if told else []


def informative(job: ReportedJob) -> list[Condition]:
    """Leave out what every job of its kind says: that it was accepted, is not suspended, goes on, or is at its end."""
    over = ended(job) is not None
    usual = {
        (ConditionType.ACCEPTED, "True"), (ConditionType.SUSPENDED, "False"), (ConditionType.STALLED, "False"),
        (ConditionType.RECONCILING, "False"), *([(ConditionType.PODS_READY, "False"), (ConditionType.PLANNED, "True")] if over else []),
    }  # fmt: skip
    return [each for each in job.status.conditions if (each.type, each.status) not in usual]


def _attempts(job: ReportedJob) -> list[str]:
    return ["", "Attempts", *map(attempt_line, job.status.attempts)] if job.status.attempts else []


def _warnings(job: ReportedJob) -> list[str]:
    found = job.status.plan.warnings if job.status.plan else []
    return ["", "Warnings", *(f"  {warning}" for warning in found)] if found else []


def _samples(job: ReportedJob) -> list[str]:
    found = job.status.evaluation.samples if job.status.evaluation else []
    return ["", "Samples", *(line for sample in found for line in sample_lines(sample))] if found else []


def sample_lines(sample: SampleStatus) -> list[str]:
    """Return a prompt and both answers, each in one line."""
    pairs = (("prompt", sample.prompt), ("base", sample.base), ("tuned", sample.tuned))
    return [f"  {name:<8}{one_line(text)}" for name, text in pairs]


def one_line(text: str) -> str:
    """Return a text without line breaks and terminal escapes, cut where it is long."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return plain if len(plain) <= LONGEST_ANSWER else f"{plain[:LONGEST_ANSWER]}..."
