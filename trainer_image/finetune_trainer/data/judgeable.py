"""Whether the answers of the data can be compared with: checked before a GPU is used. Called by prepare.

A metric that no answer could ever meet would say 0 of both models, and nobody would see why.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import regex
from finetune_contract import GENERATING, Evaluation, Metric

from finetune_trainer.data.questions import short
from finetune_trainer.data.request import DataRequest
from finetune_trainer.data.selection import HELD_OUT_FLOOR
from finetune_trainer.errors import UserError
from finetune_trainer.evaluation.questions import Question
from finetune_trainer.evaluation.results import rows_of
from finetune_trainer.evaluation.scores.texts import PUNCTUATION, compiled, result, searched, unfenced, validator

Questions = Sequence[Question]
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
PROBES: tuple[Any, ...] = ({}, [], "", 0, True, None)
"""A value of each kind: a schema that cannot be followed fails on one of them."""


def check_settings(evaluation: Evaluation) -> None:
    """Raise UserError(InvalidSpec) for a pattern or a schema that is none."""
    for metric in evaluation.metrics:
        try:
            compiled(metric.pattern, metric.ignore_case)
        except regex.error as error:
            raise UserError(
                "InvalidSpec", f"evaluation.metrics {metric.name}: pattern is not valid: {error}"
            ) from error
        if metric.schema:
            _check_schema(metric)


def _check_schema(metric: Metric) -> None:
    from jsonschema import SchemaError  # noqa: PLC0415 - only jobs with a schema need it
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    try:
        for elsewhere in _references(json.loads(metric.schema)):
            message = f"evaluation.metrics {metric.name}: schema refers to {elsewhere}, which is not fetched: write that part out"
            raise UserError("InvalidSpec", message)
        for probe in PROBES:
            validator(metric.schema).is_valid(probe)
    except Unresolvable as error:
        message = f"schema refers to #{error.ref.lstrip('#')}, which it does not hold: add it, or correct the name"
        raise UserError("InvalidSpec", f"evaluation.metrics {metric.name}: {message}") from error
    except RecursionError as error:
        message = f"evaluation.metrics {metric.name}: schema is nested too deeply, or refers to itself without end: correct it"
        raise UserError("InvalidSpec", message) from error
    except regex.error as error:
        message = f"evaluation.metrics {metric.name}: schema has a pattern that is not valid: {error}"
        raise UserError("InvalidSpec", message) from error
    except SchemaError as error:
        message = f"evaluation.metrics {metric.name}: schema is not a JSON Schema: {error.message}"
        raise UserError("InvalidSpec", message) from error
    except ValueError as error:
        raise UserError("InvalidSpec", f"evaluation.metrics {metric.name}: schema is not JSON: {error}") from error


def _references(schema: object) -> Iterator[str]:
    """Yield the references out of a JSON Schema, wherever they stand. Those into it begin with #."""
    if isinstance(schema, list):
        schema = dict(enumerate(schema))
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if key in REFERENCES and isinstance(value, str) and not value.startswith("#"):
            yield value
        yield from _references(value)


def askable(questions: Questions, request: DataRequest, *, longest: int) -> list[Question]:
    """Return the questions that fit: the prompt is no longer than a training row, and there is room for an answer."""
    generates = any(metric.type in GENERATING for metric in request.evaluation.metrics)
    room = request.evaluation.max_answer_tokens if generates else 1
    return [
        question
        for question in questions
        if len(question.prompt) < longest
        and len(question.prompt) + room <= request.length_limit
        and question.longest <= longest
    ]


def check_questions(found: Questions, kept: Questions, request: DataRequest) -> None:
    """Raise UserError where a metric has no rows, or rows that it cannot judge. `kept` are those of `found` that are askable."""
    for metric in request.evaluation.metrics:
        if metric.lm_eval is not None:
            continue
        every, mine = (
            [question for question in some if question.rows == rows_of(metric, request.evaluation)]
            for some in (found, kept)
        )
        if len(mine) < (HELD_OUT_FLOOR if request.evaluation.gated else 1):
            if len(every) > len(mine):
                raise UserError("DatasetTooSmall", _too_long(metric, len(every) - len(mine), len(every), request))
            raise UserError("DatasetTooSmall", _too_few(metric, len(mine), request.evaluation))
        judge = PROBLEMS.get(metric.type)
        if judge and (problem := judge(metric, mine)):
            raise UserError("DatasetInvalid", f"evaluation.metrics {metric.name}: {problem}")


def _too_few(metric: Metric, rows: int, evaluation: Evaluation) -> str:
    where = f"rows of {metric.source.location.uri}" if metric.source else "held-out rows"
    wanted = f"at least {HELD_OUT_FLOOR} {where}" if evaluation.gated else where
    remedy = "add rows" if metric.source or evaluation.source else "add rows, raise evaluation.fraction"
    if not rows:
        remedy = "name the columns of both in columns.prompt and columns.completion, " + remedy
    return (
        f"evaluation.metrics {metric.name} needs {wanted} with a prompt and an answer, but there are {rows}: {remedy} or remove the "
        "metric"
    )


def _too_long(metric: Metric, left: int, rows: int, request: DataRequest) -> str:
    return (
        f"evaluation.metrics {metric.name}: {left} of {rows} rows are too long to be asked: their prompts do not fit "
        f"training.sequenceLength, or the model's {request.length_limit} positions together with evaluation.maxAnswerTokens "
        f"({request.evaluation.max_answer_tokens}): raise the one, or lower the other"
    )


def _no_number(_metric: Metric, questions: Questions) -> str:
    wrong = [question for question in questions if not any(sign.isdigit() for sign in result(question.reference))]
    return _listed(wrong, questions, "have no number in their answer", "use another type, or correct the rows")


def _no_json(metric: Metric, questions: Questions) -> str:
    wrong = [question for question in questions if metric.equal and not _is_json(question.reference)]
    return _listed(wrong, questions, "have an answer that is not JSON", "set values to any, or correct the rows")


def _is_json(text: str) -> bool:
    try:
        json.loads(unfenced(text))
    except ValueError:
        return False
    return True


def _not_found(metric: Metric, questions: Questions) -> str:
    if not compiled(metric.pattern, metric.ignore_case).groups:
        return ""
    wrong = [question for question in questions if searched(metric, question.reference) is None]
    if len(wrong) < len(questions):
        return ""
    return _listed(wrong, questions, "have an answer in which pattern finds nothing", "correct the pattern")


def _no_label(metric: Metric, questions: Questions) -> str:
    if len(questions[0].labels) < 2:
        only = short(questions[0].reference)
        return f"all rows have the same answer ({only}), so there is nothing to tell apart: list labels, or add rows"
    wrong = [question for question in questions if metric.labels and question.reference not in metric.labels]
    return _listed(wrong, questions, "have an answer that is not in labels", "add it to labels, or correct the rows")


def _no_call(_metric: Metric, questions: Questions) -> str:
    return (
        ""
        if any(question.calls for question in questions)
        else "no row calls a tool: use another type, or correct the rows"
    )


def _nothing_to_find(_metric: Metric, questions: Questions) -> str:
    wrong = [question for question in questions if not question.reference]
    return _listed(wrong, questions, "have an empty answer", "correct the rows")


def _listed(wrong: Questions, questions: Questions, what: str, remedy: str) -> str:
    if not wrong:
        return ""
    first = wrong[0]
    return f"{len(wrong)} of {len(questions)} rows {what} (first {first.place}: {short(first.reference)}): {remedy}"


PROBLEMS: dict[str, Callable[[Metric, Questions], str]] = {
    "exactMatch": _nothing_to_find,
    "contains": _nothing_to_find,
    "rougeL": _nothing_to_find,
    "numeric": _no_number,
    "json": _no_json,
    "regex": _not_found,
    "label": _no_label,
    "toolCall": _no_call,
}


def _alike(questions: Questions) -> str:
    """Return labels that differ in case or punctuation only, as a list."""
    labels = sorted({label for question in questions for label in question.labels})
    plain = [PUNCTUATION.sub("", label).casefold() for label in labels]
    return ", ".join(short(label) for label, bare in zip(labels, plain, strict=True) if plain.count(bare) > 1)


def warnings(questions: Questions, kept: Questions, evaluation: Evaluation) -> tuple[str, ...]:
    """Return what a reader of the results must know beforehand."""
    left = len(questions) - len(kept)
    long = [one for one in kept if one.answer_tokens > evaluation.max_answer_tokens]
    cut = any(metric.type in GENERATING for metric in evaluation.metrics) and len(long)
    alike = _alike(kept)
    found = (
        alike and f"labels that hardly differ count as different: {alike}. Write them alike if they mean the same",
        left
        and f"{left} of {len(questions)} held-out rows are too long to be asked: evaluation.metrics leave them out",
        cut
        and f"{cut} of {len(kept)} answers of the held-out rows are longer than evaluation.maxAnswerTokens "
        f"({evaluation.max_answer_tokens}), the longest has {max(one.answer_tokens for one in long)} tokens: answers that long are cut",
    )
    return tuple(text for text in found if text)
