"""From tokenised rows to those that are trained: the sequence length is found, long rows are cut, dropped or split."""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetune_trainer.chat.encoding import IGNORED, Tokens
from finetune_trainer.data.packing import packed_sequences
from finetune_trainer.data.tokenised import RowsWriter, read_rows

COVERED_PERCENT = 99
"""Share of the rows that the default sequence length leaves whole: the longest percent would set the memory of all."""

ROUNDING = 64
"""Sequence lengths are multiples of this, for the tensor cores' tiles."""

CPT_SEQUENCE_LENGTH = 4096


NICE = (1, 2, 5)
"""First digits of the widths of a histogram's bars."""

BARS_TO_P99 = 20
MOST_BARS = 32
"""The last bar has all rows that are longer, so that one long row does not squeeze the others into the first bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Rows by length: entry i has those of i * width to (i + 1) * width - 1 tokens, the last of 32 also those that are longer."""

    width: int
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStats:
    """What was found while cutting. Lengths are those before (of cpt: after) it."""

    rows: int
    tokens: int
    trained_tokens: int
    p50: int
    p99: int
    longest: int
    lengths: Histogram
    over_rows: int
    """Longer than the sequence length, whatever became of them."""
    truncated_rows: int
    """Cut, and trained."""
    shortened_rows: int
    """Of these the ones that lose something to learn."""
    dropped_rows: int
    masked_rows: int
    """Left out because there is nothing to learn in them."""
    lost_rows: int
    """Of these the ones in which something was, behind the cut."""
    packed_rows: int
    digest: str


def percentile(lengths: Mapping[int, int], percent: int) -> int:
    """Return the length that so many percent of the rows do not exceed; 0 where there are none.

    `lengths` says how many rows have each length: as many numbers as the longest row has tokens, however many rows there are.
    """
    wanted = -(-(sum(lengths.values()) - 1) * percent // 100)
    for length in sorted(lengths):
        wanted -= lengths[length]
        if wanted < 0:
            return length
    return 0


def histogram(lengths: Mapping[int, int]) -> Histogram:
    """Count the rows of each length in bars of a round width, about twenty up to the 99th percentile."""
    wanted = max(1, percentile(lengths, 99) / BARS_TO_P99)
    width = next(width for power in range(20) for digit in NICE if (width := digit * 10**power) >= wanted)
    bars: Counter[int] = Counter()
    for length, rows in lengths.items():
        bars[min(length // width, MOST_BARS - 1)] += rows
    return Histogram(width=width, rows=tuple(bars[at] for at in range(max(bars, default=-1) + 1)))


def sequence_length(lengths: Mapping[int, int], *, wanted: int, limit: int, objective: str, over_length: str) -> int:
    """Return the longest row in tokens: as wanted, or what covers nearly all rows and the model has positions for."""
    if wanted:
        return wanted
    if objective == "cpt":
        return min(CPT_SEQUENCE_LENGTH, limit)
    covered = 100 if over_length == "error" else COVERED_PERCENT
    needed = percentile(lengths, covered)
    return min(max(ROUNDING, -(-needed // ROUNDING) * ROUNDING), limit)


def cut(raw: Path, into: Path, longest: int, *, objective: str, over_length: str) -> TokenStats:
    """Write the rows as they are trained, and count what happened to them."""
    before: Counter[int] = Counter()
    after: Counter[int] = Counter()
    counts: Counter[str] = Counter()
    with RowsWriter(into) as writer:
        for ids, labels in read_rows(raw):
            pieces = _split(ids, labels, longest) if objective == "cpt" else [(ids, labels)]
            for piece, learned in pieces:
                before[len(piece)] += 1
                over = len(piece) > longest
                counts["over"] += over
                if over and over_length == "drop":
                    counts["dropped"] += 1
                elif (trained := _trained(learned[:longest])) == 0:
                    counts["masked"] += 1
                    counts["lost"] += over and _trained(learned) > 0
                else:
                    counts["trained"] += trained
                    counts["truncated"] += over
                    counts["shortened"] += over and _trained(learned) > trained
                    after[min(len(piece), longest)] += 1
                    writer.add(piece[:longest], learned[:longest])
        digest = writer.digest
    return TokenStats(
        rows=after.total(),
        tokens=sum(length * rows for length, rows in after.items()),
        trained_tokens=counts["trained"],
        p50=percentile(before, 50),
        p99=percentile(before, 99),
        longest=max(before, default=0),
        lengths=histogram(before),
        over_rows=counts["over"],
        truncated_rows=counts["truncated"],
        shortened_rows=counts["shortened"],
        dropped_rows=counts["dropped"],
        masked_rows=counts["masked"],
        lost_rows=counts["lost"],
        packed_rows=packed_sequences(after, longest),
        digest=digest,
    )


def _trained(labels: Tokens) -> int:
    """Tokens that the loss sees: nothing predicts the first one."""
    return int(np.count_nonzero(labels[1:] != IGNORED))


def _split(ids: Tokens, labels: Tokens, longest: int) -> list[tuple[Tokens, Tokens]]:
    """Split a document; nothing predicts a lone last token, so the piece before it gives one up."""
    bounds = [*range(0, len(ids), longest), len(ids)]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] == 1:
        bounds[-2] -= 1
    return [(ids[start:end], labels[start:end]) for start, end in itertools.pairwise(bounds)]
