"""The run file: a configuration as the operator writes it, and as a trainer of any age reads it.

Operators are upgraded while jobs stay on the trainer image that they are pinned to. So a field at its default is not written: a
trainer need not know what its job does not use. And the file names the fields that a run can do without, which are marked OPTIONAL: a
trainer that does not know one of these leaves it out. Any other unknown field would change the result, and is refused.
"""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, Final, TypeVar

from finetune_contract.wire import camel, from_wire, parsed, to_wire

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
    optional = {OPTIONAL_FIELDS: named} if (named := sorted(set(_optional(config)))) else {}
    return json.dumps(_sparse(config) | optional, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


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


def _sparse(value: Any) -> Any:
    """Return plain JSON values without fields at their default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {camel(field.name): _sparse(item) for field, item in _used(value)}
    if isinstance(value, tuple):
        return [_sparse(item) for item in value]
    return to_wire(value)


def _optional(value: Any) -> Iterator[str]:
    """Yield the paths of the optional fields that are written."""
    for item in value if isinstance(value, tuple) else ():
        yield from _optional(item)
    for field, item in _used(value) if dataclasses.is_dataclass(value) else ():
        name = camel(field.name)
        if field.metadata.get("optional"):
            yield name
        else:
            yield from (f"{name}.{path}" for path in _optional(item))


def _used(value: Any) -> Iterator[tuple["dataclasses.Field[Any]", Any]]:
    """Yield the fields of a dataclass that say something, with their values."""
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if item is not None and item != _default(field):
            yield field, item


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
