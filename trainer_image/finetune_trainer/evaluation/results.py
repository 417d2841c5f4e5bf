"""Base and tuned model on the same questions, metric by metric. Pure. Called by training.measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from finetune_contract import (
    FURTHER,
    GENERATING,
    JUDGE,
    LABEL,
    TOOL_CALL,
    Evaluation,
    Figure,
    Metric,
    MetricResult,
)

from finetune_trainer.evaluation.intervals import Picks, Scores, figure, picks, rows_needed
from finetune_trainer.evaluation.questions import HELD_OUT, NO_ROWS, Question
from finetune_trainer.evaluation.scores.calls import calls_in, same_calls, same_functions
from finetune_trainer.evaluation.scores.labels import codes, confusion, macro_f1
from finetune_trainer.evaluation.scores.texts import TEXT_SCORES, said
from finetune_trainer.evaluation.tasks.asked import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a model answered to one question."""

    text: str = ""
    """Without special tokens; empty where no metric looks at it."""
    raw: str = ""
    """With special tokens, in which tool calls may be written."""
    cut: bool = False
    """It was still speaking at the limit."""
    labels: dict[str, float] = field(default_factory=dict)
    """Log-probability of each label as the whole answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One metric: its results, the scores of each row, and what the figures do not show."""

    metric: Metric
    results: tuple[MetricResult, ...]
    asked: tuple[int, ...]
    """Numbers of the questions."""
    base: Scores | None
    tuned: Scores
    details: dict[str, Any]
    base_documents: tuple[Document, ...] = ()
    tuned_documents: tuple[Document, ...] = ()
    """Of a task of lm-eval."""


def rows_of(metric: Metric, evaluation: Evaluation) -> int:
    """Return the number of the rows that a metric is measured on."""
    if metric.lm_eval is not None:
        return NO_ROWS
    return HELD_OUT if metric.source is None else evaluation.further_sources.index(metric.source)


def is_generated(question: Question, evaluation: Evaluation) -> bool:
    """Tell whether a metric looks at the text that a model answers."""
    return any(
        metric.type in GENERATING and rows_of(metric, evaluation) == question.rows for metric in evaluation.metrics
    )


def judged(
    evaluation: Evaluation,
    questions: Sequence[Question],
    *,
    base: Sequence[Said] | None,
    tuned: Sequence[Said],
    seed: int,
) -> tuple[Judged, ...]:
    """Return what each metric says. Raises nothing: references were checked when the questions were made."""
    found = []
    for metric in evaluation.metrics:
        rows = rows_of(metric, evaluation)
        asked = tuple(number for number, question in enumerate(questions) if question.rows == rows)
        if asked and metric.type != JUDGE:
            judge = _labels if metric.type == LABEL else _texts
            found.append(judge(metric, asked, questions, base, tuned, seed=seed))
    return tuple(found)


def _texts(
    metric: Metric, asked: tuple[int, ...], questions: Sequence[Question], base: Sequence[Said] | None,
    tuned: Sequence[Said], *, seed: int,
) -> Judged:  # fmt: skip
    samples = picks(len(asked), seed)
    scored = {
        name: _scores(metric, asked, questions, answers)
        for name, answers in (("base", base), ("tuned", tuned))
        if answers
    }
    note = _cut_note(asked, tuned)
    results = [_means(metric.name, {name: scores[0] for name, scores in scored.items()}, samples, note)]
    if metric.type == TOOL_CALL:
        further = {name: scores[1] for name, scores in scored.items()}
        results.append(_means(f"{metric.name}.{FURTHER[TOOL_CALL]}", further, samples, ""))
    of_base = scored["base"][0] if "base" in scored else None
    return Judged(
        metric=metric, results=tuple(results), asked=asked, base=of_base, tuned=scored["tuned"][0], details={}
    )


def _scores(
    metric: Metric, asked: Sequence[int], questions: Sequence[Question], answers: Sequence[Said]
) -> tuple[Scores, Scores]:
    pairs = [(questions[number], answers[number]) for number in asked]
    if metric.type == TOOL_CALL:
        called = [(calls_in(answer.raw), question.calls) for question, answer in pairs]
        return (
            np.array([same_calls(found, wanted) for found, wanted in called]),
            np.array([same_functions(found, wanted) for found, wanted in called]),
        )
    found = np.array([scored(metric, said(answer.text), question.reference) for question, answer in pairs])
    return found, found


def scored(metric: Metric, answer: str, reference: str) -> float:
    """Return the score of one answer; 0 where the library that scores it fails. A model may say anything, and the run is paid for."""
    try:
        return TEXT_SCORES[metric.type](metric, answer, reference)
    except Exception as error:  # noqa: BLE001 - see above
        print(
            f"metric {metric.name}: an answer could not be scored and counts 0: {type(error).__name__}: {error}",
            flush=True,
        )
        return 0.0


def _means(name: str, scores: dict[str, Scores], samples: Picks, note: str) -> MetricResult:
    statistics = {model: partial(_mean, values) for model, values in scores.items()}
    return _result(name, statistics, samples, note)


def _mean(values: Scores, sample: Picks) -> float:
    return float(values[sample].mean())


def _result(name: str, statistics: dict[str, Any], samples: Picks, note: str) -> MetricResult:
    base, tuned = statistics.get("base"), statistics["tuned"]
    rows = samples.shape[1]
    difference: Figure | None = None
    if base is not None:
        difference = figure(lambda sample: tuned(sample) - base(sample), samples, least=-1.0)
    return MetricResult(
        name=name,
        examples=rows,
        base=None if base is None else figure(base, samples, least=0.0),
        tuned=figure(tuned, samples, least=0.0),
        difference=difference,
        rows_needed=0 if difference is None else rows_needed(difference, rows),
        note=note,
    )


def _cut_note(asked: Sequence[int], answers: Sequence[Said]) -> str:
    cut = sum(answers[number].cut for number in asked)
    if not cut:
        return ""
    return (
        f"{cut} of {len(asked)} answers of the tuned model were cut at evaluation.maxAnswerTokens: raise it if answers may be "
        "longer"
    )


def _labels(
    metric: Metric, asked: tuple[int, ...], questions: Sequence[Question], base: Sequence[Said] | None,
    tuned: Sequence[Said], *, seed: int,
) -> Judged:  # fmt: skip
    labels = metric.labels or tuple(sorted(questions[asked[0]].labels))
    samples = picks(len(asked), seed)
    wanted = codes(labels, [questions[number].reference for number in asked])
    found = {
        name: codes(labels, [likeliest(labels, answers[number]) for number in asked])
        for name, answers in (("base", base), ("tuned", tuned))
        if answers
    }
    right = {name: (values == wanted).astype(np.float64) for name, values in found.items()}
    f1 = {name: partial(_f1, values, wanted, len(labels)) for name, values in found.items()}
    tables = {name: confusion(values, wanted, len(labels)).tolist() for name, values in found.items()}
    return Judged(
        metric=metric,
        results=(
            _means(metric.name, right, samples, ""),
            _result(f"{metric.name}.{FURTHER[LABEL]}", f1, samples, ""),
        ),
        asked=asked,
        base=right.get("base"),
        tuned=right["tuned"],
        details={"labels": list(labels), "confusion": tables},
    )


def likeliest(labels: Sequence[str], answer: Said) -> str:
    """Return the label that the model would rather give as its whole answer."""
    return max(labels, key=lambda label: answer.labels[label])


def _f1(found: Any, wanted: Any, labels: int, sample: Picks) -> float:
    return macro_f1(confusion(found[sample], wanted[sample], labels))


def preferred(
    metric: Metric, asked: Sequence[int], shares: Sequence[float], *, seed: int, note: str, details: dict[str, Any]
) -> Judged:
    """Return how often a judge prefers the tuned model: 1, 0, or a half where it says both, for each row that it judged."""
    tuned = np.array(shares, dtype=np.float64)
    scores = {"base": 1.0 - tuned, "tuned": tuned}
    result = _means(metric.name, scores, picks(len(asked), seed), note)
    return Judged(
        metric=metric, results=(result,), asked=tuple(asked), base=scores["base"], tuned=tuned, details=details
    )


def of_task(
    metric: Metric, base: Sequence[Document], tuned: Sequence[Document], *, seed: int, details: dict[str, Any]
) -> Judged:
    """Return what a task of lm-eval says of both models, document by document."""
    scores = {
        name: np.array([document.score for document in documents], dtype=np.float64)
        for name, documents in (("base", base), ("tuned", tuned))
        if documents
    }
    return Judged(
        metric=metric,
        results=(_means(metric.name, scores, picks(len(tuned), seed), ""),),
        asked=(),
        base=scores.get("base"),
        tuned=scores["tuned"],
        details=details,
        base_documents=tuple(base),
        tuned_documents=tuple(tuned),
    )
