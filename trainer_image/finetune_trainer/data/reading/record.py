"""What a reader of files yields: a record with its number, or the reason why that row cannot be read."""

import datetime as dt
import decimal
import re
from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]

NUMBER = re.compile(r"\d*")
"""What a column without a name may hold: nothing, or the row numbers that pandas writes."""


class Unreadable(Exception):
    """A record or a whole file that cannot be read; the message says why. Yielded for a row, raised for a file."""


Place = tuple[int, Record | Unreadable]
"""Number of the record in its file, counted from 1 as an editor shows it, and the record."""


def named(names: Sequence[str], values: Sequence[Any]) -> Record | Unreadable:
    """Return the values by name; a column without a name is left out if it holds row numbers or nothing."""
    if all(names):
        return dict(zip(names, values, strict=True))
    for number, (name, value) in enumerate(zip(names, values, strict=True), start=1):
        if not name and value is not None and not NUMBER.fullmatch(str(value).strip()):
            return Unreadable(
                f"it has text in column {number}, which has no name: name that column or empty it (of a table the first line "
                "holds the names, so remove lines above them)"
            )
    return {name: value for name, value in zip(names, values, strict=True) if name}


def kind(value: Any) -> str:
    """Return what a value is, in words for people."""
    match value:
        case None:
            return "null"
        case str():
            return "text"
        case bool():
            return "true or false"
        case int() | float() | decimal.Decimal():
            return f"the number {value}"
        case dt.date() | dt.time() | dt.timedelta():
            return f"the date or time {value}"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case bytes():
            return "bytes that are not UTF-8 text"
        case _:
            return type(value).__name__
