"""Rows that are longer than the sequence length: which they are, what they lose, and what to set. Called by prepare."""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from finetune_trainer.data.measure import TokenStats
from finetune_trainer.data.request import DataRequest
from finetune_trainer.errors import UserError

NAMED = 3
"""So many of the longest rows a message names."""


@dataclass(slots=True)
class Lengths:
    """Counts rows by their length in tokens, and remembers where the longest are."""

    rows: Counter[int] = field(default_factory=Counter)
    _longest: list[tuple[int, int, str]] = field(default_factory=list)
    _seen: int = 0

    def add(self, tokens: int, place: str, times: int = 1) -> None:
        """Take in a row; of rows of one length the first ones are remembered."""
        self.rows[tokens] += times
        self._seen += 1
        one = (tokens, -self._seen, place)
        if len(self._longest) < NAMED:
            heapq.heappush(self._longest, one)
        elif one > self._longest[0]:
            heapq.heapreplace(self._longest, one)

    def over(self, tokens: int) -> str:
        """Name those that are longer, the longest first: `a.jsonl row 7 with 9,421`."""
        longest = sorted(self._longest, reverse=True)
        return ", ".join(f"{place} with {length:,}" for length, _, place in longest if length > tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The rows that are trained, or those that are held out."""

    name: str
    stats: TokenStats
    lengths: Lengths


def refuse_too_long(parts: tuple[Part, ...], request: DataRequest, length: int) -> None:
    """Raise UserError(DatasetInvalid) where rows are too long and training.overLength is error."""
    told = [_are_longer(part, length) for part in parts if part.stats.over_rows]
    if told and request.over_length == "error":
        remedy = _remedy(max(part.stats.longest for part in parts), request, length, "truncate or drop")
        raise UserError("DatasetInvalid", f"{'; '.join(told)}: {remedy}")


def too_long_warnings(parts: tuple[Part, ...], request: DataRequest, length: int) -> Iterator[str]:
    """Say of each part how many rows are too long, and what becomes of them."""
    for part in parts:
        stats = part.stats
        if request.objective == "cpt" or not stats.over_rows:
            continue
        fates = [
            f"{rows} {one if rows == 1 else several}"
            for rows, one, several in (
                (stats.dropped_rows, "is left out", "are left out"),
                (
                    stats.lost_rows,
                    "has no answer left within it and is left out",
                    "have no answer left within it and are left out",
                ),
                (stats.shortened_rows, "loses the end of its answer or text", "lose the end of their answer or text"),
                (
                    stats.truncated_rows - stats.shortened_rows,
                    "loses only text that is not learned",
                    "lose only text that is not learned",
                ),
            )
            if rows
        ]
        choice = "truncate" if stats.dropped_rows else "drop" if stats.truncated_rows else ""
        remedy = _remedy(part.stats.longest, request, length, choice)
        yield f"{_are_longer(part, length)}: {', '.join(fates)}. {remedy[0].upper()}{remedy[1:]}"


def _are_longer(part: Part, length: int) -> str:
    stats = part.stats
    total = stats.rows + stats.dropped_rows + stats.masked_rows
    are = "is" if stats.over_rows == 1 else "are"
    named = part.lengths.over(length)
    return f"{stats.over_rows} of {total} {part.name} {are} longer than the sequence length of {length:,} tokens (the longest: {named})"


def _remedy(longest: int, request: DataRequest, length: int, choice: str) -> str:
    """What helps: a longer sequence, unless the model reads no more."""
    limit = request.length_limit
    other = f", or set training.overLength to {choice}" if choice else ""
    if length >= limit:
        return f"shorten such rows, because the model reads no more{other}"
    if longest > limit:
        return f"raise training.sequenceLength (the model reads at most {limit:,} tokens) and shorten such rows{other}"
    return f"raise training.sequenceLength to {longest}{other}"
