"""What a reader of files yields: a record with its number, or the reason why that row cannot be read."""

from typing import Any

Record = dict[str, Any]


class Unreadable(Exception):
    """A record or a whole file that cannot be read; the message says why. Yielded for a row, raised for a file."""


Place = tuple[int, Record | Unreadable]
"""Number of the record in its file, counted from 1 as an editor shows it, and the record."""
