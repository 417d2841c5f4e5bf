"""From tokenised rows to those that are trained: the sequence length is found, long rows are cut, dropped or split."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetune_trainer.chat.encoding import IGNORED, Tokens
from finetune_trainer.data.packing import best_fit
from finetune_trainer.data.tokenised import RowsWriter, read_rows
from finetune_trainer.errors import UserError

COVERED_PERCENT = 99
"""Share of the rows that the default sequence length leaves whole: the longest percent would set the memory of all."""

ROUNDING = 64
"""Sequence lengths are multiples of this, for the tensor cores' tiles."""

CPT_SEQUENCE_LENGTH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStats:
    """What was found while cutting. Lengths are those before (of cpt: after) it."""

    rows: int
    tokens: int
    trained_tokens: int
    p50: int
    p99: int
    longest: int
    truncated_rows: int
    dropped_rows: int
    masked_rows: int
    packed_rows: int
    digest: str


def sequence_length(lengths: Tokens, *, wanted: int, limit: int, objective: str, over_length: str) -> int:
    """Return the longest row in tokens: as wanted, or what covers nearly all rows and the model has positions for."""
    if wanted:
        return wanted
    if objective == "cpt":
        return min(CPT_SEQUENCE_LENGTH, limit)
    covered = 100 if over_length == "error" else COVERED_PERCENT
    needed = int(np.percentile(lengths, covered, method="higher")) if len(lengths) else ROUNDING
    return min(max(ROUNDING, -(-needed // ROUNDING) * ROUNDING), limit)


def cut(raw: Path, into: Path, longest: int, *, objective: str, over_length: str) -> TokenStats:
    """Write the rows as they are trained, count what happened to them. Raises UserError for long rows if asked."""
    before: list[int] = []
    after: list[int] = []
    counts = dict.fromkeys(("trained", "truncated", "dropped", "masked"), 0)
    with RowsWriter(into) as writer:
        for ids, labels in read_rows(raw):
            pieces = _split(ids, labels, longest) if objective == "cpt" else [(ids, labels)]
            for piece, learned in pieces:
                before.append(len(piece))
                counts["truncated"] += len(piece) > longest and over_length != "drop"
                if len(piece) > longest and over_length == "drop":
                    counts["dropped"] += 1
                elif (trained := _trained(learned[:longest])) == 0:
                    counts["masked"] += 1
                else:
                    counts["trained"] += trained
                    after.append(min(len(piece), longest))
                    writer.add(piece[:longest], learned[:longest])
        digest = writer.digest
    if over_length == "error" and counts["truncated"]:
        raise _too_long(counts["truncated"], len(before), longest, max(before))
    percentiles = np.percentile(before, [50, 99], method="higher") if before else [0, 0]
    return TokenStats(
        rows=len(after),
        tokens=sum(after),
        trained_tokens=counts["trained"],
        p50=int(percentiles[0]),
        p99=int(percentiles[1]),
        longest=max(before, default=0),
        truncated_rows=counts["truncated"],
        dropped_rows=counts["dropped"],
        masked_rows=counts["masked"],
        packed_rows=len(best_fit(after, longest)),
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


def _too_long(rows: int, total: int, longest: int, most: int) -> UserError:
    return UserError(
        "DatasetInvalid",
        f"{rows} of {total} rows are longer than {longest} tokens (the longest has {most}): raise "
        "training.sequenceLength, or let training.overLength truncate or drop them",
    )
