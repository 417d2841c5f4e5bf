"""Dataclasses to camelCase JSON and back: the only serialiser of the contract. No dependencies, imports in milliseconds."""

import dataclasses
import functools
import json
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")

ACRONYMS = {"gib": "GiB", "usd": "USD", "uri": "URI", "gpu": "GPU", "id": "ID"}
"""Words that keep their capitals inside a camelCase name (`cost_usd` -> `costUSD`)."""


def camel(name: str) -> str:
    """Turn a Python name into its API spelling: `price_per_gpu_hour_usd` -> `pricePerGPUHourUSD`."""
    first, *rest = name.split("_")
    return first + "".join(ACRONYMS.get(word, word.capitalize()) for word in rest)


def to_wire(value: Any) -> Any:
    """Turn a dataclass (or a container of them) into plain JSON values; fields that are None are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((key, getattr(value, name)) for name, key in _keys(type(value)))
        return {key: to_wire(item) for key, item in pairs if item is not None}
    if isinstance(value, tuple | list):
        return [to_wire(item) for item in value]
    if isinstance(value, dict):
        return {key: to_wire(item) for key, item in value.items()}
    return value


def from_wire(kind: type[T], data: dict[str, Any]) -> T:
    """Build the dataclass `kind` from plain JSON values.

    Raises ValueError naming the field when one is unknown, missing or of the wrong type.
    """
    hints, names = _fields(kind)  # type: ignore[arg-type]  # a class is hashable
    if unknown := sorted(set(data) - set(names)):
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)}")
    values = {names[key]: _parse(hints[names[key]], item, f"{kind.__name__}.{key}") for key, item in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


@functools.cache
def _keys(kind: type[Any]) -> tuple[tuple[str, str], ...]:
    """Return the names of a dataclass's fields with their API spelling."""
    return tuple((field.name, camel(field.name)) for field in dataclasses.fields(kind))


@functools.cache
def _fields(kind: type[Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the types of a dataclass's fields, and their names by API spelling; found once, as they are the slow part."""
    return typing.get_type_hints(kind), {key: name for name, key in _keys(kind)}  # type: ignore[arg-type]  # as above


def _parse(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):  # only `X | None` is used
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else _parse(inner, value, where)
    if dataclasses.is_dataclass(hint):
        return from_wire(typing.cast("type[Any]", hint), _expect(dict, value, where))
    if origin is tuple:
        return tuple(_parse(arguments[0], item, where) for item in _expect(list, value, where))
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
    data = json.loads(text)
    return from_wire(kind, _expect(dict, data, kind.__name__))
