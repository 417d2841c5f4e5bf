"""What became of the rows that were read: each is trained, held out, or left out for one reason. Called by prepare."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetune_trainer.data.corpus import Corpus
from finetune_trainer.data.measure import TokenStats
from finetune_trainer.data.selection import Selection


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Rows that are neither trained nor held out, by the reason."""

    read: int
    """All rows of the data that is trained, good and bad."""
    unusable: int
    duplicates: int
    measured: int
    """In data that is only measured on."""
    unchosen: int
    """Beyond datasets[].maxExamples, or what a weight asks for."""
    dropped: int
    """Too long."""
    masked: int
    """With nothing to learn."""


def left_out(trained: Sequence[Corpus], selection: Selection, written: Sequence[TokenStats]) -> LeftOut:
    """Count the rows that are left out; `written` are those of the data that is trained, also of its held-out rows."""
    used = sum(
        int(np.count_nonzero((copies > 0) | held))
        for copies, held in zip(selection.copies, selection.held_out, strict=True)
    )
    usable = sum(map(len, selection.copies))
    return LeftOut(
        read=sum(corpus.invalid.seen for corpus in trained),
        unusable=sum(corpus.invalid.rows for corpus in trained),
        duplicates=selection.duplicates,
        measured=selection.leaked,
        unchosen=usable - used - selection.duplicates - selection.leaked,
        dropped=sum(stats.dropped_rows for stats in written),
        masked=sum(stats.masked_rows for stats in written),
    )
