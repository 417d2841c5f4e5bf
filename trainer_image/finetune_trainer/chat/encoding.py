"""Rows become token ids and labels: the only place where text meets the tokenizer."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from finetune_contract import Chat

from finetune_trainer.chat.conversation import Conversation, RowRefused
from finetune_trainer.chat.spans import Rendered, Renderer, Span
from finetune_trainer.chat.stops import Tokenizer
from finetune_trainer.chat.turns import Turns
from finetune_trainer.errors import UserError

IGNORED = -100
"""Label of a token that the loss does not see (torch's cross entropy)."""

Tokens = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One row as the trainer sees it, before truncation."""

    input_ids: Tokens
    labels: Tokens
    abridged: bool = False
    """As in Rendered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """Text without turns; the characters from `learned_from` on are learned."""

    text: str
    learned_from: int = 0
    closed: bool = True
    """An end-of-text token follows."""


TAIL_TOKENS = 24
"""Enough for a mark such as <|im_end|> in bytes."""

TURN_MARK = re.compile(r"(<\|?/?[A-Za-z_]+\|?>)\s*$")
"""What templates write at the end of a turn."""

ENCODED_AT_ONCE = 256
"""Rows per call of the tokenizer: enough for its threads, few enough that their encodings stay under 50 MiB."""

Batch = list[tuple[Conversation | Plain, Rendered | RowRefused]]


class Encoder:
    """Encodes rows of one run."""

    def __init__(self, tokenizer: Tokenizer, turns: Turns, chat: Chat) -> None:
        self._tokenizer = tokenizer
        self._fast = tokenizer.backend_tokenizer
        self._fast.no_truncation()
        self._fast.no_padding()
        self._turns = turns
        self._chat = chat
        self._bos = tokenizer.bos_token_id
        self._adds_bos = self._bos is not None and self._bos in tokenizer("")["input_ids"]
        self._renderer = Renderer(tokenizer, turns, chat.train_on) if turns.template else None
        self.learned_stops: set[int] = set()
        """Tokens that end what rows teach, and at which the base model does not stop."""

    def encode(self, rows: Iterable[Conversation | Plain]) -> Iterator[Encoded | RowRefused]:
        """Encode rows in their order; a row that cannot be written is answered by its refusal.

        While the tokenizer works on one batch (without Python's lock), the template writes the next.
        """
        remaining = iter(rows)
        with ThreadPoolExecutor(1) as tokenizing:
            running: tuple[Batch, Future[Any]] | None = None
            while batch := [(row, self._written(row)) for row in islice(remaining, ENCODED_AT_ONCE)]:
                texts = [item.text for _, item in batch if not isinstance(item, RowRefused)]
                started = tokenizing.submit(self._fast.encode_batch, texts, add_special_tokens=False)
                if running:
                    yield from self._finished(*running)
                running = batch, started
            if running:
                yield from self._finished(*running)

    def _finished(self, batch: Batch, running: Future[Any]) -> Iterator[Encoded | RowRefused]:
        encodings = iter(running.result())
        for row, item in batch:
            yield item if isinstance(item, RowRefused) else self._encoded(row, item, next(encodings))

    def render(self, row: Conversation | Plain) -> Rendered:
        """Return the text and the learned spans of one row. Raises RowRefused."""
        written = self._written(row)
        if isinstance(written, RowRefused):
            raise written
        return written

    def _written(self, row: Conversation | Plain) -> Rendered | RowRefused:
        if isinstance(row, Plain):
            start = 0 if self._chat.train_on == "all" else row.learned_from
            return Rendered(text=row.text, spans=((start, len(row.text)),) if row.text[start:].strip() else ())
        if self._renderer is None:
            Renderer(self._tokenizer, self._turns, self._chat.train_on)  # raises with the remedy
        try:
            return self._renderer.render(row)  # type: ignore[union-attr]  # checked above
        except RowRefused as refusal:
            return refusal

    def _encoded(self, row: Conversation | Plain, written: Rendered, encoding: Any) -> Encoded:
        ids = np.array(encoding.ids, dtype=np.int32)
        labels = np.full(len(ids), IGNORED, dtype=np.int32)
        offsets = encoding.offsets
        for span in written.spans:
            first, last = _token_range(offsets, span)
            labels[first:last] = ids[first:last]
        if isinstance(row, Plain):
            return self._closed(ids, labels, closed=row.closed, learned=bool(written.spans))
        self._check_stop(labels)
        return replace(_without_second_bos(ids, labels, self._bos), abridged=written.abridged)

    def _closed(self, ids: Tokens, labels: Tokens, *, closed: bool, learned: bool) -> Encoded:
        """Put the beginning and end of text around plain tokens, once."""
        bos, eos = self._bos, self._tokenizer.eos_token_id
        if self._adds_bos and (not len(ids) or ids[0] != bos):
            ids, labels = np.insert(ids, 0, bos), np.insert(labels, 0, IGNORED)
        if closed and (not len(ids) or ids[-1] != eos):
            ids, labels = np.append(ids, eos), np.append(labels, eos if learned else IGNORED)
        if closed and learned:
            self._ends_with(int(eos))
        return Encoded(input_ids=ids.astype(np.int32), labels=labels.astype(np.int32))

    def _ends_with(self, token: int) -> None:
        if token not in self._turns.base_stops:
            self.learned_stops.add(token)

    def _check_stop(self, labels: Tokens) -> None:
        """Refuse to teach an end of turn that is not one token: generation cannot stop there."""
        learned = labels[labels != IGNORED]
        if not len(learned):
            return
        if int(learned[-1]) in self._turns.stop_ids:
            self._ends_with(int(learned[-1]))
            return
        stops = ", ".join(str(self._tokenizer.convert_ids_to_tokens(index)) for index in sorted(self._turns.stop_ids))
        # as it is read: a line break, not the \u010a of byte-level BPE
        tail = self._tokenizer.decode(learned[-TAIL_TOKENS:].tolist())
        if mark := TURN_MARK.search(tail):
            ending = f"{mark[1]!r}, which is not a token of this tokenizer but several pieces of text"
        else:
            ending = f"{self._tokenizer.decode([int(learned[-1])])!r}, which is not a token of its own"
        raise UserError(
            "ModelUnsupported",
            f"the chat template ends an answer with {ending}, so generation could not stop there (it stops at {stops}): the tuned "
            "model would never stop. Set chat.template to chatml, or use a template that ends each answer with one token of the model",
        )


def _token_range(offsets: Sequence[tuple[int, int]], span: Span) -> tuple[int, int]:
    """Tokens that overlap a span; one that begins before it and ends in it is learned with it."""
    first = bisect_right(offsets, span[0], key=lambda offset: offset[1])
    return first, max(first, bisect_left(offsets, span[1], key=lambda offset: offset[0]))


def _without_second_bos(ids: Tokens, labels: Tokens, bos: int | None) -> Encoded:
    doubled = bos is not None and len(ids) > 1 and ids[0] == bos and ids[1] == bos
    return Encoded(input_ids=ids[1:] if doubled else ids, labels=labels[1:] if doubled else labels)
