"""Rules that a parsed spec must keep, checked without an API server. Values by themselves were checked when parsed.

Called by the offline commands, and by the operator for what CEL cannot say: the size of the whole.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from finetune_operator.api.fields import Model
from finetune_operator.api.job_rules import NAME_LENGTH, NAME_MESSAGE, NAME_PATTERN, STRUCT_RULES
from finetune_operator.api.once import once_each

SPEC_BYTES = 32_768
"""The spec travels in an annotation (at most 256 KiB for all of an object's) and again, resolved, in status; the bounds
of its fields add up to more, because each of them is generous by itself."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a manifest breaks: where, and what to do about it."""

    path: str
    message: str

    def __str__(self) -> str:
        """Return the line a user reads."""
        return f"{self.path}: {self.message}"


@once_each
def violations(spec: Model) -> tuple[Violation, ...]:
    """Return every broken rule between fields, in the order of the fields."""
    return (*_oversized(spec), *_broken(spec, "spec"))


def name_violations(name: str) -> tuple[Violation, ...]:
    """Return what is wrong with a job's name."""
    fits = len(name) <= NAME_LENGTH and re.fullmatch(NAME_PATTERN, name)
    return () if fits else (Violation("metadata.name", NAME_MESSAGE),)


def _oversized(spec: Model) -> Iterator[Violation]:
    size = len(spec.model_dump_json(exclude_none=True).encode())
    if size > SPEC_BYTES:
        yield Violation(
            "spec", f"is {size:,} bytes of JSON, the limit is {SPEC_BYTES:,}: shorten the prompts or use fewer datasets"
        )


def _broken(value: Model, path: str) -> Iterator[Violation]:
    for rule in STRUCT_RULES.get(type(value), ()):
        if not rule.holds(value):
            yield Violation(f"{path}.{rule.field}", rule.message)
    for name, info in type(value).model_fields.items():
        below = f"{path}.{info.alias}"
        match getattr(value, name):
            case Model() as child:
                yield from _broken(child, below)
            case list() as children:
                for index, child in enumerate(children):
                    if isinstance(child, Model):
                        yield from _broken(child, f"{below}[{index}]")
