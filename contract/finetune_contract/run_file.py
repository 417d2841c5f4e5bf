"""The run file: a configuration as the operator writes it, and as a trainer of any age reads it.

Operators are upgraded while jobs stay on the trainer image that they are pinned to. So a field at its default is not written: a
trainer need not know what its job does not use. And the file names the fields that a run can do without, which are marked OPTIONAL: a
trainer that does not know one of these leaves it out. Any other unknown field would change the result, and is refused.
"""

import dataclasses
import functools
import json
from typing import Any, Final, TypeVar

from finetune_contract.wire import PLAIN, camel, from_wire, parsed, to_wire

T = TypeVar("T")

OPTIONAL: Final = {"optional": True}
"""Metadata of a field without which a run has the same result; only a figure is missing from its record."""

OPTIONAL_FIELDS: Final = "optional"
"""Where a file names those that it has."""


class UnknownFields(ValueError):
    """A newer operator asks for what this version does not know."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        super().__init__(", ".join(paths))
        self.paths = paths


def write(config: Any) -> str:
    """Return the text of a configuration."""
    optional: set[str] = set()
    written = _sparse(config, "", optional)
    named = {OPTIONAL_FIELDS: sorted(optional)} if optional else {}
    return json.dumps(written | named, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def read(kind: type[T], text: str) -> T:
    """Read a configuration. Raises UnknownFields where it uses what `kind` does not have, ValueError where it is none."""
    data, unknown = parsed(kind, text), list[str]()
    optional = data.pop(OPTIONAL_FIELDS, [])
    config = from_wire(kind, data, unknown.append)
    if needed := sorted({path for path in unknown if not _is_among(path, optional)}):
        raise UnknownFields(tuple(needed))
    return config


def _is_among(path: str, optional: list[str]) -> bool:
    """Tell whether a field, or one that it is part of, is optional."""
    return any(path == named or path.startswith(f"{named}.") for named in optional)


def _sparse(value: Any, path: str, optional: set[str]) -> Any:
    """Return plain JSON values without fields at their default, and add the paths of the optional fields among them to `optional`."""
    if type(value) in PLAIN:  # most values: the tests below take longer
        return value
    if isinstance(value, tuple):
        return [_sparse(item, path, optional) for item in value]
    if not dataclasses.is_dataclass(value):
        return to_wire(value)
    found = {}
    for field in _fields(type(value)):  # type: ignore[arg-type]  # a class is hashable
        item = getattr(value, field.name)
        if item is None or item == field.default:
            continue
        below = f"{path}{field.key}"
        if field.is_optional:
            optional.add(below)
        found[field.key] = _sparse(item, f"{below}.", set() if field.is_optional else optional)
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """A field of a configuration, as a file has it."""

    name: str
    key: str
    default: Any
    is_optional: bool


@functools.cache
def _fields(kind: type[Any]) -> tuple[_Field, ...]:
    """Return the fields of a dataclass; found once, since two of these files are written for each job."""
    return tuple(
        _Field(field.name, camel(field.name), _default(field), field.metadata.get("optional", False))
        for field in dataclasses.fields(kind)
    )


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
