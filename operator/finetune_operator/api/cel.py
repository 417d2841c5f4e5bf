"""Rules of the API, each said twice: in CEL for the API server, in Python for commands that run without one.

Rules of a single value are attached to its type with `Checked`; rules between fields are in rules.py.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from finetune_contract.wire import camel
from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

T = TypeVar("T")
VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One sentence about a value: what must be so, and what to do. Messages are static, because the API server's cost
    budget refuses most message expressions.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool]
    """The same as `cel`, over the parsed value."""
    field: str = ""
    """The child that the message is about, as a dotted path below the value."""
    beside: str = ""
    """The child that `field` does not go with: the API server names both, and evaluates the rules of one such child together."""

    def to_schema(self) -> dict[str, str]:
        """Return the entry of x-kubernetes-validations."""
        message = f"{self.field}: {self.message}" if self.beside not in ("", self.field) else self.message
        place = {"fieldPath": f".{self.beside or self.field}"} if self.field else {}
        return {"rule": self.cel, "message": message} | place


class Checked:
    """Annotation that puts rules on a field type: into the schema, and into pydantic's own validation."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the rules after the type's own constraints."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the rules to the type's schema, after those that it has."""
        plain = handler(schema)
        return plain | {VALIDATIONS: [*plain.get(VALIDATIONS, ()), *(rule.to_schema() for rule in self.rules)]}

    def check(self, value: T) -> T:
        """Return the value. Raises pydantic's error with the first broken rule's message."""
        for rule in self.rules:
            if not rule.holds(value):
                raise PydanticCustomError("rule", "{message}", {"message": rule.message})
        return value


def matching(pattern: str, message: str) -> Rule:
    """Return the rule that a string matches an RE2 pattern (which Python's `re` must read in the same way)."""
    return Rule(
        cel=f"self.matches({quoted(pattern)})",
        message=message,
        holds=lambda text: bool(_python_regex(pattern).search(text)),
    )


def not_matching(pattern: str, message: str) -> Rule:
    """Return the rule that a string does not match a pattern."""
    return Rule(
        cel=f"!self.matches({quoted(pattern)})",
        message=message,
        holds=lambda text: not _python_regex(pattern).search(text),
    )


OBEYED = ("Cc", "Cf", "Zl", "Zp")
"""Unicode's categories of what is not shown but obeyed."""

ONE_LINE = Rule(
    cel=r"!self.matches('[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}]')",
    message="must be one line without control characters and marks that turn the direction of text",
    holds=lambda text: not any(unicodedata.category(char) in OBEYED for char in text),
)


def matching_after(prefix: str, pattern: str, message: str) -> Rule:
    """Return the rule that a string which starts with `prefix` matches a pattern."""
    return Rule(
        cel=f"!self.startsWith({quoted(prefix)}) || self.matches({quoted(pattern)})",
        message=message,
        holds=lambda text: not text.startswith(prefix) or bool(_python_regex(pattern).search(text)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The range of a decimal: `above` and `below` leave the end itself out, `least` and `most` do not."""

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None

    def ends(self) -> list[tuple[str, str, float]]:
        """Return (word, operator, limit) of each end that is set."""
        ends = (
            ("above", ">", self.above),
            ("at least", ">=", self.least),
            ("below", "<", self.below),
            ("at most", "<=", self.most),
        )
        return [(word, operator, limit) for word, operator, limit in ends if limit is not None]


def decimal(pattern: str, bounds: Bounds, example: str) -> Rule:
    """Return the rule that a string is a decimal within bounds."""
    compare = " && ".join(f"double(self) {operator} {float(limit)!r}" for _, operator, limit in bounds.ends())
    words = " and ".join(f"{word} {limit:.15g}" for word, _, limit in bounds.ends())
    return Rule(
        cel=f"self.matches({quoted(pattern)}) && {compare}",
        message=f'must be a decimal in quotes, {words}, such as "{example}"',
        holds=lambda text: bool(_python_regex(pattern).search(text)) and _within(float(text), bounds),
    )


def quoted(text: str) -> str:
    """Return a CEL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def default(kind: type[BaseModel], field: str) -> Any:
    """Return the default of a field: rules that compare with one read it where it is written, in the model."""
    return kind.model_fields[field].default


def untouched(path: str, kind: type[BaseModel], *fields: str) -> str:
    """Return in CEL: these fields of the struct at a path are as they are by default."""
    return " && ".join(_is_default(f"{path}.{camel(field)}", default(kind, field)) for field in fields)


def _is_default(place: str, value: object) -> str:
    match value:
        case None:
            return f"!has({place})"
        case bool():
            return place if value else f"!{place}"
        case str():
            return f"{place} == {quoted(value)}"
        case _:
            return f"{place} == {value}"


def _within(value: float, bounds: Bounds) -> bool:
    return (
        (bounds.above is None or value > bounds.above)
        and (bounds.least is None or value >= bounds.least)
        and (bounds.below is None or value < bounds.below)
        and (bounds.most is None or value <= bounds.most)
    )


@cache  # at its first use: a command compiles the patterns of what it reads, not all 56
def _python_regex(pattern: str) -> re.Pattern[str]:
    """RE2's $ is the end of the text; Python's also stands before a last newline."""
    return re.compile(pattern.replace("$", r"\Z"), re.ASCII)
