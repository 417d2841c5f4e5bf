"""Records become rows: one shape whatever the format was, with a hash of what the row says and a list of what was not read."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from finetune_trainer.chat.conversation import Conversation, Message
from finetune_trainer.chat.encoding import Plain
from finetune_trainer.data.formats.advice import without_roles
from finetune_trainer.data.formats.calls import ONLY_NAMED, are_names, calls_of, tools_of
from finetune_trainer.data.formats.chosen import PLACEHOLDER
from finetune_trainer.data.formats.classes import class_named
from finetune_trainer.data.formats.detect import MESSAGES, PAIR, Format
from finetune_trainer.data.formats.invalid import Missing, NotText, RowInvalid, WithoutRoles, gathered, parsed
from finetune_trainer.data.formats.left import holds_text, left_unread
from finetune_trainer.data.formats.messages import OF_MESSAGES, Spelling, Turns, turns_of
from finetune_trainer.data.formats.names import (
    ASSISTANT,
    DEVELOPER,
    SYSTEM,
    TOOLS,
    USER,
    bare,
    is_empty,
    is_harmless,
)
from finetune_trainer.data.formats.numbered import turns_in_columns
from finetune_trainer.data.formats.spoken import named_pairs
from finetune_trainer.data.formats.system_prompts import own_system, said_by_system, with_system
from finetune_trainer.data.formats.tagged import are_told, without_tags
from finetune_trainer.data.formats.texts import alternating, from_text, is_alternating
from finetune_trainer.data.reading.record import Record, kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row, whatever its format was."""

    messages: tuple[Message, ...] = ()
    tools: Sequence[Any] | None = None
    first_learned: int = 0
    unlearned: tuple[int, ...] = ()
    """Answers that the data takes out of the loss."""
    added: int = field(default=0, compare=False)
    """Messages before those of the data: a system prompt."""
    prompt: str = ""
    text: str = ""
    """Plain text, or the completion of a plain prompt."""
    unread: Mapping[str, bool | None] = field(default_factory=dict, compare=False)
    """Columns and keys that are not read and not known to be harmless; true where they hold text, None where they say no."""
    spelt: frozenset[Spelling] = field(default=frozenset(), compare=False)
    """What the messages hold of the keys and role words that the job names."""
    told_tools: bool = field(default=False, compare=False)
    """The system prompt holds the tools already, so that the template does not write them again."""

    def fingerprint(self) -> int:
        """64 bits of a hash over all that the row says: exact duplicates have the same.

        Raises RowInvalid for text that no encoding can write: half of a UTF-16 pair, as cut strings leave it.
        """
        content: list[Any] = [self.messages, self.tools, self.first_learned, self.prompt, self.text]
        if self.unlearned:
            content.append(self.unlearned)
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
        try:
            written = canonical.encode("utf-8")
        except UnicodeEncodeError as error:
            half = f"\\u{ord(canonical[error.start]):04x}"
            raise RowInvalid(f"it holds {half}, half of a character: correct or remove the row") from error
        return int.from_bytes(hashlib.blake2b(written, digest_size=8).digest(), "big")

    def to_encode(self) -> Conversation | Plain:
        """Return what the encoder takes."""
        if self.messages:
            return Conversation(
                messages=self.messages,
                tools=self.tools,
                first_learned=self.first_learned,
                unlearned=self.unlearned,
                added=self.added,
            )
        return Plain(text=self.prompt + self.text, learned_from=len(self.prompt))


def to_row(record: Record, form: Format) -> Row:
    """Turn a record into a row. Raises RowInvalid with everything that is wrong with it."""
    if form.kind == MESSAGES:
        turns, *beside = gathered(lambda: _said(record, form), *_beside(record, form))
        return _conversation(record, form, turns, *beside, learned_from=0)
    if form.kind == PAIR:
        return _prompt_completion(class_named(record, form.completion, form.classes) if form.classes else record, form)
    text = _text(record, form.text)
    return Row(text=text, unread=left_unread(record, form, ()))


def _said(record: Record, form: Format) -> Turns:
    if form.numbered:
        return Turns(messages=turns_in_columns(record, form.numbered, _text))
    try:
        return turns_of(_value(record, form.messages), form.turns)
    except WithoutRoles as problem:
        raise RowInvalid(without_roles(record, form.messages)) from problem


def _beside(record: Record, form: Format) -> tuple[Callable[[], Any], ...]:
    """What stands beside a conversation: its system prompt and its tools."""
    return lambda: own_system(record, form), lambda: _own_tools(record, form)


def _own_tools(record: Record, form: Format) -> list[Any] | None:
    tools = record.get(form.tools)
    return None if are_names(tools) else tools_of(tools)


def _conversation(
    record: Record, form: Format, turns: Turns, system: str, own_tools: list[Any] | None, *, learned_from: int
) -> Row:
    said, tools = _in_the_body(turns)
    before = with_system(without_tags(turns.messages, form.turns.template), form, system or said)
    added = len(before) - len(turns.messages)
    named = {ONLY_NAMED.format(form.tools): False} if are_names(record.get(form.tools)) else {}
    tools = own_tools or tools
    told = before[0]["role"] in (SYSTEM, DEVELOPER) and are_told(tools, before[0]["content"])
    return Row(
        messages=tuple(before),
        tools=None if told else tools,
        told_tools=told,
        first_learned=learned_from + added if learned_from else 0,
        unlearned=tuple(index + added for index in turns.unlearned),
        added=added,
        unread={key: holds_text(key, value) for key, value in turns.unread.items()}
        | named
        | left_unread(record, form, before),
        spelt=frozenset(turns.spelt),
    )


def _in_the_body(turns: Turns) -> tuple[str, list[Any] | None]:
    """The body of an API call that was logged has its tools and system prompt beside the messages."""
    body = turns.unread
    tools = [tools_of(body.pop(key)) for key in list(body) if bare(key) in TOOLS]
    system = body.pop("system", None)
    for key in [key for key in body if not key.startswith(OF_MESSAGES) and is_harmless(key)]:
        del body[key]
    return said_by_system(system), next((found for found in tools if found), None)


def _prompt_completion(record: Record, form: Format) -> Row:
    prompt, completion = gathered(
        lambda: _filled(form.template, record) if form.template else from_text(record.get(form.prompt)),
        lambda: from_text(record.get(form.completion)),
    )
    if not form.conversational and not _holds_turns(prompt) and not _holds_turns(completion) and not form.calls:
        return _plain(record, form)
    before, history, after, *beside = gathered(
        lambda: _asked(prompt, record, form),
        lambda: _history(record, form),
        lambda: _calls(completion) if form.calls else _turns(completion, ASSISTANT, form.completion, record, form),
        *_beside(record, form),
    )
    before.messages[:0] = history
    both = Turns(
        messages=[*before.messages, *after.messages],
        unlearned=[*before.unlearned, *(len(before.messages) + index for index in after.unlearned)],
        unread={**before.unread, **after.unread},
        spelt=before.spelt | after.spelt,
    )
    return _conversation(record, form, both, *beside, learned_from=len(before.messages))


def _asked(prompt: Any, record: Record, form: Format) -> Turns:
    asked = _turns(prompt, USER, form.prompt, record, form)
    if form.joined and asked.messages:
        asked.messages[-1] = {**asked.messages[-1], "content": _joined(asked.messages[-1]["content"], record, form)}
    return asked


def _plain(record: Record, form: Format) -> Row:
    """Without a chat template prompt and completion are text that follows each other: what ends a promptTemplate parts the two."""
    parting = form.template[len(form.template.rstrip()) :]
    if not is_empty(record.get(form.history)):
        raise RowInvalid("its history holds earlier turns, which need a chat template: set chat.template: chatml")
    told, text, system = gathered(
        lambda: (
            _filled(form.template, record) + parting
            if form.template
            else _joined(_text(record, form.prompt), record, form)
        ),
        lambda: _text(record, form.completion),
        lambda: own_system(record, form) or form.system_prompt,
    )
    return Row(
        prompt=f"{system}\n\n{told}" if system else told,
        text=text,
        unread=left_unread(record, form, ()),
    )


def _holds_turns(value: Any) -> bool:
    """A list of texts is several answers here, not turns."""
    return (isinstance(value, list) and any(isinstance(item, dict) for item in value)) or (
        isinstance(value, dict) and any(key in value for key in ("messages", "role", "choices", "from"))
    )


def _turns(value: Any, role: str, column: str, record: Record, form: Format) -> Turns:
    if _holds_turns(value):
        return turns_of(value, form.turns)
    if isinstance(value, str):
        return Turns(messages=[{"role": role, "content": value}])
    return Turns(messages=[{"role": role, "content": _text(record, column)}])


def _calls(value: Any) -> Turns:
    """The answers of xLAM are the calls themselves."""
    if is_empty(value):
        raise RowInvalid("its answers are empty")
    return Turns(messages=[{"role": ASSISTANT, "content": "", "tool_calls": calls_of(value, "its answer")}])


def _filled(template: str, record: Record) -> str:
    """Put columns into a prompt template; what an empty column leaves at the ends is taken away."""
    return PLACEHOLDER.sub(lambda found: _optional(record, found[1]), template).strip()


def _optional(record: Record, column: str) -> str:
    value = record.get(column)
    if value is None:
        return ""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else _text(record, column)


def _joined(prompt: str, record: Record, form: Format) -> str:
    parts = [prompt, *(_optional(record, column) for column in form.joined)]
    return "\n\n".join(part for part in parts if part.strip())


def _history(record: Record, form: Format) -> list[Message]:
    """Alpaca's earlier turns: pairs of a question and its answer."""
    history = record.get(form.history)
    if is_empty(history):
        return []
    if isinstance(history, str):
        history = parsed(history, "its history")
    if not isinstance(history, list):
        raise RowInvalid(f"its history is {kind(history)}, not a list of questions with their answers")
    if all(isinstance(item, dict) for item in history) or named_pairs(history, form.turns.roles):
        return turns_of(history, form.turns).messages
    if not is_alternating(history) or isinstance(history[0], str):
        raise RowInvalid("its history is not a list of pairs, a question and its answer")
    return alternating(history)


def _text(record: Record, column: str) -> str:
    value = _value(record, column)
    if isinstance(value, str):
        return value
    if isinstance(value, float) and math.isnan(value):
        raise RowInvalid(f"its {column} is NaN, which stands for a missing value: fill it in, or remove the row")
    if isinstance(value, bool):
        raise NotText(column, kind(value), ": write it as text, such as yes or no")
    if isinstance(value, int | float | Decimal):
        raise NotText(
            column,
            kind(value),
            ": write numbers as text (in quotes in JSON, astype(str) in pandas), and classes by their names, or list these in "
            "datasets[].classNames",
        )
    raise NotText(
        column, kind(value), ": write its text into that column, or JSON text if the model is to read or write JSON"
    )


def _value(record: Record, column: str) -> Any:
    if record.get(column) is None:
        raise Missing([column], record)
    return record[column]
