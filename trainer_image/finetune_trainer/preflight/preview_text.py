"""The preview as text: some rows with their trained tokens marked, a histogram of lengths, what is cut and dropped."""

from collections.abc import Iterator
from itertools import islice, pairwise

import numpy as np
from finetune_contract import harmless

from finetune_trainer.chat.encoding import IGNORED, Tokens
from finetune_trainer.chat.stops import Tokenizer
from finetune_trainer.data.measure import TokenStats
from finetune_trainer.data.prepare import TRAIN_FILE, Prepared
from finetune_trainer.data.tokenised import read_batches, read_rows

SHOWN_ROWS = 5
SHOWN_TOKENS = 400
"""Of each row: the beginning and, behind three dots, the end."""

BUCKETS = 12
BAR_WIDTH = 40
GREEN, PLAIN = "\x1b[32m", "\x1b[0m"
OPEN, CLOSE = "\u27e6", "\u27e7"
"""Mark trained tokens where there is no colour."""


def preview_text(
    prepared: Prepared, tokenizer: Tokenizer, *, title: str, colour: bool = False, rows: int = SHOWN_ROWS
) -> str:
    """Return the whole preview."""
    path = prepared.folder / TRAIN_FILE
    marks = (GREEN, PLAIN) if colour else (OPEN, CLOSE)
    shown = "green tokens are trained" if colour else f"{OPEN}tokens in such brackets{CLOSE} are trained"
    lines = [f"Data of {title}: {shown}, the rest is context.", "", *counts(prepared), "", "Row lengths in tokens"]
    lengths = np.concatenate([batch[0] for batch in read_batches(path)])
    lines += histogram(lengths)
    for number, (ids, labels) in enumerate(islice(read_rows(path), rows), start=1):
        trained = int(np.count_nonzero(labels != IGNORED))
        lines += [
            "",
            f"--- row {number}: {len(ids)} tokens, {trained} trained ---",
            marked(ids, labels, tokenizer, marks),
        ]
    return "\n".join(lines) + "\n"


def counts(prepared: Prepared) -> Iterator[str]:
    """Say what was found and what happened to it."""
    train: TokenStats = prepared.train
    left = prepared.left
    share = 100 * train.trained_tokens / max(1, train.tokens)
    yield f"rows read               {left.read}"
    yield f"rows to train           {train.rows}"
    yield f"rows held out           {prepared.evaluation_rows}"
    yield f"tokens                  {train.tokens} ({share:.0f} % trained)"
    yield f"sequence length         {prepared.sequence_length}"
    yield f"median, p99, longest    {train.p50}, {train.p99}, {train.longest}"
    yield f"packed sequences        {train.packed_rows}"
    yield f"exact duplicates        {left.duplicates} (left out)"
    yield f"rows truncated          {train.truncated_rows}{_held_out(prepared)}"
    yield f"rows too long, left out {left.dropped}"
    yield f"rows with nothing left  {left.masked} (left out)"
    if left.unusable:
        yield f"rows not usable         {left.unusable} (left out)"
    if left.measured:
        yield f"rows to measure on      {left.measured} (also in an evaluation source, left out)"
    if left.unchosen:
        yield f"rows not chosen         {left.unchosen} (beyond maxExamples or the weight of their data)"
    for what, named in prepared.columns:
        yield f"{what:<23} {harmless(named)}"
    for warning in prepared.warnings:
        yield f"warning: {warning}"


def _held_out(prepared: Prepared) -> str:
    rows = prepared.evaluation.truncated_rows if prepared.evaluation else 0
    return f" (and {rows} held out)" if rows else ""


def histogram(lengths: Tokens) -> list[str]:
    """Return one bar per range of lengths."""
    numbers, edges = np.histogram(lengths, bins=min(BUCKETS, max(1, int(lengths.max() - lengths.min()))))
    widest = max(int(numbers.max()), 1)
    return [
        f"{int(low):>7} - {int(high):<7} {int(number):>8} {'#' * -(-int(number) * BAR_WIDTH // widest)}"
        for low, high, number in zip(edges[:-1], edges[1:], numbers, strict=True)
    ]


def marked(ids: Tokens, labels: Tokens, tokenizer: Tokenizer, marks: tuple[str, str]) -> str:
    """Decode a row, marking the runs of trained tokens; long rows lose their middle."""
    if len(ids) <= SHOWN_TOKENS:
        return _runs(ids, labels, tokenizer, marks)
    half = SHOWN_TOKENS // 2
    ends = (_runs(ids[part], labels[part], tokenizer, marks) for part in (slice(half), slice(-half, None)))
    return f"\n  ... {len(ids) - 2 * half} tokens ...\n".join(ends)


def _runs(ids: Tokens, labels: Tokens, tokenizer: Tokenizer, marks: tuple[str, str]) -> str:
    trained = labels != IGNORED
    bounds = [0, *(np.nonzero(np.diff(trained))[0] + 1).tolist(), len(ids)]
    parts = [(tokenizer.decode(ids[start:end].tolist()), bool(trained[start])) for start, end in pairwise(bounds)]
    return "".join(f"{marks[0]}{harmless(text)}{marks[1]}" if learned else harmless(text) for text, learned in parts)
