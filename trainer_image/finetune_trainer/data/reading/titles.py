"""Lines above the names of the columns, such as the title and the owner of a sheet: told with the line that holds the names."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from finetune_trainer.data.reading.record import NUMBER, Unreadable

LOOKED_AT = 20
"""So many lines are looked at: more do not stand above a table."""

LEAST_ROWS = 2
"""So many rows below the names tell that they are a table."""

MOST_WORDS = 5
SHOWN = 40
"""So many words the name of a column has, and so many characters of one a message shows."""

Line = tuple[int, Sequence[str]]
"""Number of a line as an editor shows it, and its cells."""


def refuse_titles(lines: Iterable[Line]) -> None:
    """Raise Unreadable where the first line holds fewer cells than the rows, and a later one holds what looks like their names."""
    seen = list(islice(lines, LOOKED_AT))
    filled = [(number, [cell.strip() for cell in cells if cell.strip()]) for number, cells in seen]
    told = [(number, cells) for number, cells in filled if cells]
    if not told:
        return
    width = Counter(len(cells) for _, cells in told).most_common(1)[0][0]
    above = next((index for index, (_, cells) in enumerate(told) if len(cells) >= width), 0)
    below = [cells for _, cells in told[above + 1 :] if len(cells) == width]
    first, (line, names) = told[0][1], told[above]
    if not above or 2 * len(first) > width or len(below) < LEAST_ROWS or not all(map(_is_name, names)):
        return
    lines_above = "line 1" if line == 2 else f"lines 1 to {line - 1}"
    raise Unreadable(
        f"its first line holds {', '.join(map(_short, first))}, and the names of its columns seem to stand in line {line} "
        f"({', '.join(names)}): remove {lines_above}"
    )


def _is_name(cell: str) -> bool:
    return len(cell.split()) <= MOST_WORDS and not cell.endswith((".", "!", "?")) and not NUMBER.fullmatch(cell)


def _short(cell: str) -> str:
    return cell if len(cell) <= SHOWN else f"{cell[:SHOWN]}..."
