"""Turns in numbered columns (user_1, assistant_1, user_2) or under numbered keys (turn_1): in their order, where names say who speaks."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from finetune_trainer.chat.conversation import Message
from finetune_trainer.data.formats.invalid import Missing, RowInvalid, gathered
from finetune_trainer.data.formats.names import ASSISTANT, COMPLETIONS, PROMPTS, ROLES, USER, bare, is_empty
from finetune_trainer.data.reading.record import Record

BESIDE = frozenset(
    ("turn", "turns", "round", "message", "msg", "text", "utterance", "content", "input", "output", "query", "question", "prompt",
     "response", "reply", "answer")
)  # fmt: skip
"""Words beside a role and a number in the name of such a column."""

WORDS = re.compile(r"[a-z]+|\d+")
UNNUMBERED = -1
"""Stands before all others: user, assistant, user_2, assistant_2."""

Columns = tuple[tuple[str, str], ...]
"""Columns and roles, in the order of the turns."""


def numbered_turns(names: Iterable[str]) -> Columns:
    """Return the columns that hold a turn each; empty where not each number has a question and, but for the last, its answer."""
    turns: dict[int, dict[str, str]] = {}
    for name in map(str, names):
        number, role = _turn(name)
        if not role:
            continue
        if role in turns.setdefault(number, {}):
            return ()
        turns[number][role] = name
    numbers = sorted(turns)
    whole = [number for number in numbers if len(turns[number]) == 2]
    if not whole or whole != numbers[: len(whole)] or len(numbers) - len(whole) > 1 or numbers == [UNNUMBERED]:
        return ()
    if len(whole) < len(numbers) and USER not in turns[numbers[-1]]:
        return ()
    return tuple(
        (turns[number][role], role) for number in numbers for role in (USER, ASSISTANT) if role in turns[number]
    )


def _turn(name: str) -> tuple[int, str]:
    """Return the number and the role in the name of a column; no role where it says something else, too."""
    words = WORDS.findall(name.lower())
    numbers = [int(word) for word in words if word.isdigit()]
    spoken = [ROLES.get(word, word) for word in words if not word.isdigit() and word not in BESIDE]
    if len(numbers) > 1 or spoken not in ([USER], [ASSISTANT]):
        return UNNUMBERED, ""
    return (numbers[0] if numbers else UNNUMBERED), spoken[0]


def numbered_questions(names: Iterable[str]) -> list[str]:
    """Return the columns of several questions and answers of which nobody knows whether they are turns: question_1, answer_1."""
    found: dict[str, list[str]] = {}
    for name in map(str, names):
        if number := re.search(r"\d+$", name):
            found.setdefault(number[0], []).append(name)
    pairs = [sorted(columns, key=_asks, reverse=True) for columns in found.values() if _are_pair(columns)]
    return [name for columns in pairs for name in columns] if len(pairs) > 1 else []


def _are_pair(columns: Sequence[str]) -> bool:
    """Tell a question with its answer: a name says that it asks, or one of two says who speaks."""
    if any(map(_asks, columns)) and any(_stem(name) in COMPLETIONS for name in columns):
        return True
    return len(columns) == 2 and any(_stem(name) in ROLES for name in columns)


def _asks(name: str) -> bool:
    return _stem(name) in PROMPTS or ROLES.get(_stem(name)) == USER


def _stem(name: str) -> str:
    return bare(name.rstrip("0123456789_- "))


def turns_in_columns(record: Record, columns: Columns, text_of: Callable[[Record, str], str]) -> list[Message]:
    """Return the turns of a record; the last ones may be empty. Raises RowInvalid, as `text_of` does for what is no text."""
    filled = [not is_empty(record.get(column)) for column, _ in columns]
    if not any(filled):
        raise Missing([column for column, _ in columns], record)
    said = columns[: len(filled) - filled[::-1].index(True)]
    if gap := next((column for (column, _), is_filled in zip(said, filled, strict=False) if not is_filled), ""):
        raise RowInvalid(f"its {gap} is empty, but later turns are not: fill it in, or empty those behind it")
    texts = gathered(*(partial(text_of, record, column) for column, _ in said))
    return [{"role": role, "content": text} for (_, role), text in zip(said, texts, strict=True)]


def numbered_values(value: Any) -> list[Any]:
    """Return the turns of an object such as {"turn_1": {...}, "turn_2": {...}} in their order; empty where it is none."""
    if not isinstance(value, dict) or not all(isinstance(turn, dict) for turn in value.values()):
        return []
    numbers = [re.fullmatch(r"\D*(\d+)", str(key)) for key in value]
    if not all(numbers) or len({re.sub(r"\d+", "", str(key)) for key in value}) != 1:
        return []
    return [value[key] for key in sorted(value, key=lambda key: int(re.sub(r"\D", "", str(key))))]
