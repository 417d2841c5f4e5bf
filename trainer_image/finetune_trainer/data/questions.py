"""Held-out rows become questions: what a model is asked, what the data answers, and each label as an answer. Called by prepare.

What cannot be judged (answers that are no labels, calls that cannot be read back) is refused here, before a GPU is used.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from finetune_contract import LABEL, TOOL_CALL, Chat, Evaluation, Metric

from finetune_trainer.chat import Encoded, Encoder, Turns
from finetune_trainer.chat.conversation import Conversation, RowRefused
from finetune_trainer.chat.encoding import IGNORED, Plain
from finetune_trainer.chat.stops import Tokenizer
from finetune_trainer.data.corpus import Placed
from finetune_trainer.data.formats.rows import Row
from finetune_trainer.errors import UserError
from finetune_trainer.evaluation.questions import HELD_OUT, Question
from finetune_trainer.evaluation.results import rows_of
from finetune_trainer.evaluation.scores.calls import Call, call, calls_in, same_calls
from finetune_trainer.evaluation.scores.texts import said

MOST_LABELS = 50
"""More different answers than this are no classes: each is a forward pass over its row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of a row that a model is asked for."""

    row: Conversation | Plain
    """Ends with the answer."""
    reference: str
    calls: tuple[Call, ...] = ()

    def with_label(self, label: str) -> Conversation | Plain:
        """Return the row as if the answer were a label."""
        if isinstance(self.row, Plain):
            text, start = self.row.text, self.row.learned_from
            before = text[start : len(text) - len(text[start:].lstrip())]
            return replace(self.row, text=text[:start] + before + label)
        *context, last = self.row.messages
        return replace(self.row, messages=[*context, {"role": last["role"], "content": label}])


def answer_of(row: Row, *, calling: bool) -> Answer | None:
    """Return the last answer that is learned, with `calling` the last that calls tools; None for a row that asks nothing."""
    if not row.messages:
        asked = Plain(text=row.prompt + row.text, learned_from=len(row.prompt))
        return Answer(row=asked, reference=row.text.strip()) if row.prompt.strip() else None
    learned = Conversation(
        messages=row.messages, tools=row.tools, first_learned=row.first_learned, unlearned=row.unlearned
    ).learned("assistant")
    calls = [index for index in learned if row.messages[index].get("tool_calls")] if calling else []
    last = max(calls or learned, default=0)
    if not last:
        return None
    message = row.messages[last]
    return Answer(
        row=Conversation(messages=row.messages[: last + 1], tools=row.tools),
        reference=said(message["content"] or ""),
        calls=tuple(_call(one) for one in message.get("tool_calls") or ()),
    )


def _call(one: Mapping[str, Any]) -> Call:
    return call(one["function"]["name"], one["function"].get("arguments"))


@dataclass(slots=True)
class Asked:
    """The rows that models are asked about, and the different answers of all rows."""

    evaluation: Evaluation
    rows: list[tuple[int, Placed]] = field(default_factory=list)
    answers: dict[int, dict[str, None]] = field(default_factory=dict)
    """By set of rows; at most one more than are labels."""

    def watched(self, rows: Iterable[Placed], asked: Iterable[bool], number: int = HELD_OUT) -> Iterator[Placed]:
        """Yield rows as they are, and keep those that are asked about."""
        wants_labels = any(metric.type == LABEL and not metric.labels for metric in self.of(number))
        for placed, out in zip(rows, asked, strict=True):
            if wants_labels:
                self._saw(placed.row, number)
            if out and self.of(number):
                self.rows.append((number, placed))
            yield placed

    def _saw(self, row: Row, number: int) -> None:
        known, answer = self.answers.setdefault(number, {}), answer_of(row, calling=False)
        if answer is not None and len(known) <= MOST_LABELS:
            known[answer.reference] = None

    def of(self, number: int) -> list[Metric]:
        """Return the metrics of a set of rows."""
        return [metric for metric in self.evaluation.metrics if rows_of(metric, self.evaluation) == number]

    def labels(self, number: int) -> tuple[str, ...]:
        """Return the labels of a set of rows: those that the job lists, else the different answers. Raises UserError."""
        mine = [metric for metric in self.of(number) if metric.type == LABEL]
        listed = dict.fromkeys(label for metric in mine for label in metric.labels)
        if all(metric.labels for metric in mine):
            return tuple(listed)
        found = self.answers.get(number, {})
        if len(found) > MOST_LABELS:
            raise UserError(
                "DatasetInvalid",
                f"evaluation.metrics {mine[0].name}: the rows have more than {MOST_LABELS} different answers (first "
                f"{short(next(iter(found)))}), so they are not labels: list them in labels, or use type exactMatch",
            )
        return tuple(dict.fromkeys([*listed, *sorted(found)]))


def questions(asked: Asked, tokenizer: Tokenizer, turns: Turns, chat: Chat) -> Iterator[Question]:
    """Yield the rows as questions. Rows that the template refuses were counted elsewhere, and are left out here."""
    encoder = Encoder(tokenizer, turns, replace(chat, train_on="last"))
    for number in sorted({number for number, _ in asked.rows}):
        calling = any(metric.type == TOOL_CALL for metric in asked.of(number))
        labels = asked.labels(number)
        placed = [one for rows, one in asked.rows if rows == number]
        found = [(one.place, answer) for one in placed if (answer := answer_of(one.row, calling=calling)) is not None]
        encoded = encoder.encode(row for _, answer in found for row in _variants(answer, labels))
        for place, answer in found:
            own, *by_label = [next(encoded) for _ in range(1 + len(labels))]
            if isinstance(own, RowRefused) or any(isinstance(one, RowRefused) for one in by_label):
                continue
            stem, ends = _parted([one.input_ids for one in by_label if isinstance(one, Encoded)])
            start = int(np.argmax(own.labels != IGNORED)) if (own.labels != IGNORED).any() else 0
            if answer.calls:
                _check_readable(place, tokenizer.decode(own.input_ids[start:]), answer)
            if start:
                yield Question(
                    rows=number, place=place, prompt=tuple(own.input_ids[:start].tolist()), reference=answer.reference,
                    calls=answer.calls, answer_tokens=len(own.input_ids) - start, stem=stem,
                    labels=dict(zip(labels, ends, strict=True)),
                )  # fmt: skip


def _check_readable(place: str, written: str, answer: Answer) -> None:
    """A call that is right must be seen to be right."""
    if not same_calls(calls_in(written), answer.calls):
        raise UserError(
            "ModelUnsupported",
            f"evaluation.metrics of type toolCall cannot read tool calls as this chat template writes them ({place}: "
            f"{short(written)}): use type exactMatch or contains, or a model with another template",
        )


def _variants(answer: Answer, labels: Sequence[str]) -> Iterator[Conversation | Plain]:
    yield answer.row
    for label in labels:
        yield answer.with_label(label)


def _parted(rows: Sequence[Any]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Return what all rows begin with, and what each goes on with."""
    if not rows:
        return (), []
    length = min(len(row) for row in rows)
    same = np.all([row[:length] == rows[0][:length] for row in rows], axis=0)
    shared = length if same.all() else int(np.argmin(same))
    shared = min(shared, length - 1) if len(rows) == 1 else shared
    return tuple(rows[0][:shared].tolist()), [tuple(row[shared:].tolist()) for row in rows]


def short(text: str) -> str:
    """Return the beginning of a text, in quotes."""
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
