"""Rows as aligned columns, in any width. Called by every command that prints a table."""

import os
import sys
import textwrap
from collections.abc import Sequence
from shutil import get_terminal_size

GAP = 3
ELLIPSIS = "..."
LEAST_SHORTENED = 14
"""Columns that a value keeps when it is shortened."""


def aligned(rows: Sequence[Sequence[str]], *, gap: int = GAP) -> list[str]:
    """Return rows as lines with columns of equal width, without spaces at the end."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    between = " " * gap
    return [between.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def fitted(rows: Sequence[Sequence[str]], width: int, *, shorten: str, drop: Sequence[str]) -> list[str]:
    """Return rows, the titles first, as lines of at most `width` columns.

    Values of the column `shorten` lose their beginning first; then columns without a value go, and then `drop`, one after the other.
    What is left is whole: a line that is still too long is better than a figure that is cut. `width` 0: no limit.
    """
    kept = [list(row) for row in rows]
    empty = [title for column, title in enumerate(rows[0]) if not any(row[column].strip() for row in rows[1:])]
    for name in ("", *(title.strip() for title in empty), *drop):
        titles = [title.strip() for title in kept[0]]
        if name in titles:
            kept = _without(kept, titles.index(name))
        excess = max(map(len, aligned(kept))) - width
        if not width or excess <= 0:
            return aligned(kept)
        if shorten in kept[0]:
            column = kept[0].index(shorten)
            longest = max(len(row[column]) for row in kept)
            if longest - excess >= LEAST_SHORTENED:
                return aligned(_shortened(kept, column, longest - excess))
    return aligned(kept)


def terminal_width() -> int:
    """Return the columns of the terminal; 0 for a pipe, where grep must find whole lines."""
    return get_terminal_size().columns if sys.stdout.isatty() else 0


def coloured() -> bool:
    """Tell whether stdout shows colours: a terminal does, unless $NO_COLOR is set or it is a dumb one, as in Emacs and CI."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and not dumb()


def dumb() -> bool:
    """Tell whether the terminal cannot go back to a line that it has shown."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def at_the_right(rows: Sequence[Sequence[str]], *columns: str) -> list[list[str]]:
    """Return rows, the titles first, whose values of these columns end at the same place, as figures do."""
    places = [rows[0].index(name) for name in columns]
    widths = {place: max(len(row[place]) for row in rows) for place in places}
    return [[cell.rjust(widths.get(place, 0)) for place, cell in enumerate(row)] for row in rows]


def sentence(text: str, width: int) -> str:
    """Return a text with its words wrapped at a width; 0: in one line."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False) if width else text


def from_left(text: str, width: int) -> str:
    """Return a text that keeps its end: of the name of a model that is what tells it from others."""
    return text if len(text) <= width else f"{ELLIPSIS}{text[len(text) - width + len(ELLIPSIS) :]}"


def _shortened(rows: Sequence[list[str]], column: int, width: int) -> list[list[str]]:
    return [[*row[:column], from_left(row[column], width), *row[column + 1 :]] for row in rows]


def _without(rows: Sequence[list[str]], column: int) -> list[list[str]]:
    return [[*row[:column], *row[column + 1 :]] for row in rows]
