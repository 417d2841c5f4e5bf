"""What a record holds, at any depth: its texts, its conversations and its lists of choices, each by the name that leads to it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from itertools import takewhile
from typing import Any

from finetune_trainer.data.formats.invalid import RowInvalid, parsed
from finetune_trainer.data.formats.names import (
    ANNOTATED,
    ANSWERING,
    ASSISTANT,
    CHOICES,
    COMPLETIONS,
    CONTENT_KEYS,
    INCIDENTAL,
    PROMPTS,
    ROLE_KEYS,
    ROLES,
    USER,
    bare,
    is_empty,
    is_harmless,
    is_label_only,
    words_of,
)
from finetune_trainer.data.formats.transcripts import written_out
from finetune_trainer.data.reading.record import Record

DEEPEST = 7
"""So deep a record is looked through: the answer of an annotation lies at annotations.0.result.0.value.choices.0."""


LETTERS = "abcdef"
STEMS = ("", "option", "options", "op", "opt", "choice", "ending", "sol", "alternative", "candidate", "distractor")
"""What stands before the letter or number of a choice in the name of its column."""

TRUTHS = ("true", "false", "True", "False", "TRUE", "FALSE")
"""Truth values in a table, which are no text of anybody's."""

COMMENTS = frozenset(("comment", "comments", "reply", "replies"))


class Kind(Enum):
    """What a value is good for."""

    TEXT = "text"
    TURNS = "turns"
    CHOICES = "choices"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A value that can be read, such as the text at `answers.text.0`."""

    path: str
    value: Any
    kind: Kind
    shared: int = 0
    """So many names on the way to it lead to all the others, too, and say nothing."""
    is_first: bool = False
    """The first of several."""
    columns: tuple[str, ...] = ()
    """Of choices that are a column each."""

    @property
    def names(self) -> list[str]:
        """The names on the way to it that tell it from others, outermost first."""
        return [name for name in self.path.split(".") if not name.isdigit()][self.shared :]


def leaves(record: Record, *, harmless: bool = False) -> list[Leaf]:
    """Return what can be read of a record, in its order; what is known to be harmless only if that is asked for."""
    columns = choice_columns(record)
    found = [
        leaf
        for name, value in record.items()
        if name not in columns
        for leaf in _leaves(str(name), value, DEEPEST, harmless)
    ]
    if columns:
        found.append(
            Leaf(path=columns[0], value=[record[name] for name in columns], kind=Kind.CHOICES, columns=columns)
        )
    ways = [leaf.names[:-1] for leaf in found if leaf.kind is Kind.TEXT]
    shared = (
        sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, zip(*ways, strict=False))) if len(ways) > 1 else 0
    )
    return [replace(leaf, shared=shared) for leaf in found]


def choice_columns(record: Record) -> tuple[str, ...]:
    """Return the columns that hold one choice each, such as A to D, option_a to option_d, ending0 to ending3."""
    stems: dict[str, list[str]] = {}
    for name, value in record.items():
        end = str(name)[-1:]
        if isinstance(value, str) and (end.isdigit() or end.lower() in LETTERS) and bare(str(name)[:-1]) in STEMS:
            stems.setdefault(str(name)[:-1], []).append(str(name))
    return next((tuple(names) for names in stems.values() if len(names) > 1), ())


def _leaves(path: str, value: Any, depth: int, harmless: bool) -> Iterator[Leaf]:
    name = next(part for part in reversed(path.split(".")) if not part.isdigit() or part == path)
    is_known = bare(name) in (*PROMPTS, *COMPLETIONS, *CONTENT_KEYS)
    left_out = is_label_only(name) if harmless else is_harmless(name) and words_of(name) & INCIDENTAL != {"title"}
    inner = _from_json(value) if isinstance(value, str) else value
    if is_empty(inner) or not depth or (left_out and not is_known):
        return
    if _is_spoken(name, inner) or _is_message(inner) or _has_messages(inner):
        yield Leaf(path=path, value=value, kind=Kind.TURNS)
    elif _is_body(inner) or not isinstance(inner, dict | list):
        if isinstance(value, str | dict) and value not in TRUTHS:
            yield Leaf(path=path, value=value, kind=Kind.TEXT)
    elif words_of(name) & CHOICES and _are_several(inner):
        yield Leaf(path=path, value=inner, kind=Kind.CHOICES)
    elif isinstance(inner, list):
        first = _leaves(f"{path}.0", inner[0], depth - 1, harmless)
        yield from (replace(leaf, is_first=leaf.is_first or len(inner) > 1) for leaf in first)
    else:
        for key, item in inner.items():
            if isinstance(key, str) and "." not in key:
                yield from _leaves(f"{path}.{key}", item, depth - 1, harmless)


def _are_several(value: Any) -> bool:
    """A list, or a struct of lists as `datasets` stores a list of structs."""
    columns = list(value.values()) if isinstance(value, dict) else [value]
    return all(isinstance(column, list) and len(column) > 1 for column in columns)


def _from_json(text: str) -> Any:
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return parsed(text, "")
    except RowInvalid:
        return text


def _has_messages(value: Any) -> bool:
    """The body of an API call, or a chat with what a program keeps beside its messages."""
    return isinstance(value, dict) and isinstance(value.get("messages"), list) and bool(value["messages"])


def _is_body(value: Any) -> bool:
    """The answer of an API, which is read as it is."""
    match value:
        case {"choices": [{"message": dict()}, *_]}:
            return True
    return False


def _is_message(value: Any) -> bool:
    """One turn alone, such as an answer with its role."""
    if not isinstance(value, dict) or speaker(value) is None or not any(key in value for key in CONTENT_KEYS):
        return False
    return not any(key in COMMENTS and value[key] for key in value)


def _is_spoken(name: str, value: Any) -> bool:
    """Turns, if somebody known speaks or the name does not say that they are answers or comments."""
    if isinstance(value, str):
        return written_out(value) is not None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return False
    speak = [item for item in value if any(isinstance(item.get(key), str) for key in ROLE_KEYS)]
    if not speak or not any(key in item for item in speak for key in CONTENT_KEYS):
        return False
    return any(map(speaker, speak)) or not words_of(name) & (ANSWERING | ANNOTATED | COMMENTS)


def is_turns(value: Any) -> bool:
    """A conversation in which somebody answers; a list of comments or annotations is none."""
    if isinstance(value, str):
        return written_out(value) is not None
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        return False
    words = {item.get(key) for item in value for key in ROLE_KEYS if isinstance(item.get(key), str)}
    return bool(words) and any(ROLES.get(word.strip().lower()) != USER for word in words if isinstance(word, str))


def speaker(turn: Any) -> str | None:
    """Return who says a turn, in our words; None where no table knows."""
    words = [turn[key] for key in ROLE_KEYS if isinstance(turn.get(key), str)] if isinstance(turn, dict) else []
    return next((role for word in words if (role := ROLES.get(word.strip().lower()))), None)


def asks_only(value: Any) -> bool:
    """Tell whether nobody answers."""
    turns = value["messages"] if isinstance(value, dict) and isinstance(value.get("messages"), list) else value
    return isinstance(turns, list) and not any(speaker(turn) == ASSISTANT for turn in turns)
