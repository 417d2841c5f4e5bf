"""Scores of texts: equal, contained, matched by a pattern, overlapping, the same number, JSON. Called by results."""

import json
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import regex
from finetune_contract import Metric

THOUGHT_ENDS = "</think>"
PUNCTUATION = regex.compile(r"\p{P}")
WORDS = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\p{L}\p{M}\p{N}]+")
"""Of any language: rouge-score's own tokenizer sees ASCII only. What is written without spaces is compared sign by sign."""

NEGATIVE_MONEY = regex.compile(r"(?<![\w)])-\s*\p{Sc}\s*(?=\d)")
"""math-verify reads -$5 as 5."""

PATTERN_SECONDS = 2.0
"""Within which a pattern must have searched an answer: some take time that is exponential in its length."""

MARK = "####"
"""Before the result in the answers of GSM8K."""

Score = Callable[[Metric, str, str], float]
"""(metric, answer, reference) -> 0 to 1"""


def said(answer: str) -> str:
    """Return what an answer says, without what was thought before."""
    return answer.rpartition(THOUGHT_ENDS)[2].strip()


def normalised(metric: Metric, text: str) -> str:
    """Return a text as the metric compares it: white space as single spaces."""
    text = unicodedata.normalize("NFC", text)
    text = text.casefold() if metric.ignore_case else text
    text = PUNCTUATION.sub("", text) if metric.ignore_punctuation else text
    return " ".join(text.split())


def exact_match(metric: Metric, answer: str, reference: str) -> float:
    """The answer is the reference."""
    return float(normalised(metric, answer) == normalised(metric, reference))


def contains(metric: Metric, answer: str, reference: str) -> float:
    """The answer holds the reference."""
    return float(normalised(metric, reference) in normalised(metric, answer))


def matched(metric: Metric, answer: str, reference: str) -> float:
    """The pattern finds something; with a group, the same as in the reference."""
    found = searched(metric, answer)
    if found is None or not compiled(metric.pattern, metric.ignore_case).groups:
        return float(found is not None)
    wanted = searched(metric, reference)
    return exact_match(metric, found, reference if wanted is None else wanted)


@cache
def compiled(pattern: str, ignore_case: bool) -> Any:
    """Return the compiled pattern. Raises regex.error."""
    return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)


def searched(metric: Metric, text: str) -> str | None:
    """Return what the pattern (its first group, if it has one) finds; None where it finds nothing, or not in time."""
    expression = compiled(metric.pattern, metric.ignore_case)
    try:
        found = expression.search(text, timeout=PATTERN_SECONDS)
    except TimeoutError:
        return None
    return found if found is None else found[1 if expression.groups else 0]


def numeric(_metric: Metric, answer: str, reference: str) -> float:
    """The result is the same number or expression, however it is written."""
    from math_verify import parse, verify  # noqa: PLC0415 - sympy takes a second, and preflight does not have it

    return float(bool(verify(parse(result(reference)), parse(result(answer)))))


def result(text: str) -> str:
    """Return what stands behind the last mark of GSM8K; the whole text without one."""
    text = text.rpartition(MARK)[2].strip() if MARK in text else text
    return str(NEGATIVE_MONEY.sub("-", text))


def json_valid(metric: Metric, answer: str, reference: str) -> float:
    """The answer is JSON that keeps the schema; where asked for, with the values of the reference."""
    try:
        value = json.loads(unfenced(answer), parse_constant=_no_constant)
        if metric.schema and not validator(metric.schema).is_valid(value):
            return 0.0
    except (ValueError, RecursionError):
        return 0.0
    return float(not metric.equal or value == json.loads(unfenced(reference)))


def _no_constant(name: str) -> None:
    """NaN and Infinity are Python's, not JSON's."""
    raise ValueError(name)


def unfenced(text: str) -> str:
    """Return what stands inside a Markdown code fence around a whole text."""
    text = text.strip()
    if not (text.startswith("```") and text.endswith("```") and "\n" in text):
        return text
    return text.partition("\n")[2].removesuffix("```")


@cache
def validator(schema: str) -> Any:
    """Return what checks values against a JSON Schema, which fetches nothing. Raises ValueError or jsonschema's SchemaError."""
    from jsonschema.validators import extend, validator_for  # noqa: PLC0415 - only jobs with this metric need it
    from referencing import Registry  # noqa: PLC0415

    described = json.loads(schema)
    kind = validator_for(described)
    kind.check_schema(described)
    return extend(kind, {"pattern": _pattern})(described, registry=Registry())


def _pattern(_validator: Any, pattern: str, value: object, _schema: object) -> Iterator[Exception]:
    """Yield what is wrong with a text: jsonschema's own search takes time that is exponential in its length for some patterns."""
    from jsonschema import ValidationError  # noqa: PLC0415

    try:
        if isinstance(value, str) and compiled(pattern, False).search(value, timeout=PATTERN_SECONDS) is None:
            yield ValidationError(f"{value!r} does not match {pattern!r}")
    except TimeoutError:
        yield ValidationError(f"{pattern!r} takes too long")


def rouge_l(_metric: Metric, answer: str, reference: str) -> float:
    """F1 of the longest common subsequence of words."""
    return float(_rouge().score(reference, answer)["rougeL"].fmeasure)


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415 - nltk takes a second, and preflight does not have it

    return RougeScorer(["rougeL"], tokenizer=_Words())


class _Words:
    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text."""
        return list(WORDS.findall(unicodedata.normalize("NFC", text).lower()))


TEXT_SCORES: dict[str, Score] = {
    "exactMatch": exact_match,
    "contains": contains,
    "regex": matched,
    "numeric": numeric,
    "json": json_valid,
    "rougeL": rouge_l,
}
