"""Dataclasses to camelCase JSON and back: the only serialiser of the contract. No dependencies, imports in milliseconds."""

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

Unknown = Callable[[str], object]
"""Called with the path of each field that a newer version has written, such as `layout.stages`."""

ACRONYMS = {"gib": "GiB", "usd": "USD", "uri": "URI", "gpu": "GPU", "id": "ID"}
"""Words that keep their capitals inside a camelCase name (`cost_usd` -> `costUSD`)."""


def camel(name: str) -> str:
    """Turn a Python name into its API spelling: `price_per_gpu_hour_usd` -> `pricePerGPUHourUSD`."""
    first, *rest = name.split("_")
    return first + "".join(ACRONYMS.get(word, word.capitalize()) for word in rest)


PLAIN = (str, int, float, bool, type(None))


def to_wire(value: Any) -> Any:
    """Turn a dataclass (or a container of them) into plain JSON values; fields that are None are left out."""
    if type(value) in PLAIN:  # most values: the tests below take longer
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((key, getattr(value, name)) for name, key in _keys(type(value)))
        return {key: to_wire(item) for key, item in pairs if item is not None}
    if isinstance(value, tuple | list):
        return [to_wire(item) for item in value]
    if isinstance(value, dict):
        return {key: to_wire(item) for key, item in value.items()}
    return value


def skipped(_path: str) -> None:
    """Leave an unknown field out: what another version reports is read as far as it is known."""


def from_wire(kind: type[T], data: dict[str, Any], unknown: Unknown = skipped) -> T:
    """Build the dataclass `kind` from plain JSON values, and pass what it does not know to `unknown`.

    Raises ValueError naming the field when one is missing or of the wrong type.
    """
    hints, names = _fields(kind)  # type: ignore[arg-type]  # a class is hashable
    for key in sorted(set(data) - set(names)):
        unknown(key)
    known = {key: item for key, item in data.items() if key in names}
    values = {
        names[key]: _parse(hints[names[key]], item, f"{kind.__name__}.{key}", within(key, unknown))
        for key, item in known.items()
    }
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


def within(key: str, unknown: Unknown) -> Unknown:
    """Return what is called with paths below a field."""
    return lambda path: unknown(f"{key}.{path}")


@functools.cache
def _keys(kind: type[Any]) -> tuple[tuple[str, str], ...]:
    """Return the names of a dataclass's fields with their API spelling."""
    return tuple((field.name, camel(field.name)) for field in dataclasses.fields(kind))


@functools.cache
def _fields(kind: type[Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the types of a dataclass's fields, and their names by API spelling; found once, as they are the slow part."""
    return typing.get_type_hints(kind), {key: name for name, key in _keys(kind)}  # type: ignore[arg-type]  # as above


def _parse(hint: Any, value: Any, where: str, unknown: Unknown) -> Any:
    if type(value) is hint:  # most values: the tests below take longer
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):  # only `X | None` is used
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else _parse(inner, value, where, unknown)
    if dataclasses.is_dataclass(hint):
        return from_wire(typing.cast("type[Any]", hint), _expect(dict, value, where), unknown)
    if origin is tuple:
        return tuple(_parse(arguments[0], item, where, unknown) for item in _expect(list, value, where))
    if origin is dict or hint is Any:
        return value
    if hint is float and type(value) is int:
        return float(value)
    return _expect(hint, value, where)


def _expect(kind: type[T], value: Any, where: str) -> T:
    if type(value) is not kind:
        raise ValueError(f"{where} must be {kind.__name__}, got {value!r}")
    return value


def dumps(value: Any) -> str:
    """Return the compact JSON text of a dataclass."""
    return json.dumps(to_wire(value), separators=(",", ":"), allow_nan=False)


def loads(kind: type[T], text: str) -> T:
    """Read the dataclass `kind` from JSON text. Raises ValueError when it is not one."""
    return from_wire(kind, parsed(kind, text))


def parsed(kind: type[Any], text: str) -> dict[str, Any]:
    """Read the JSON object that stands for a dataclass. Raises ValueError when it is not one."""
    return _expect(dict, json.loads(text), kind.__name__)
