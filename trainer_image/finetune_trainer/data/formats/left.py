"""Which columns of a row are not read and not known to be harmless."""

from collections.abc import Iterator, Sequence
from typing import Any

from finetune_trainer.chat.conversation import Message
from finetune_trainer.data.formats.detect import TEXT, Format, ways
from finetune_trainer.data.formats.inside import with_inner
from finetune_trainer.data.formats.leaves import leaves
from finetune_trainer.data.formats.names import (
    ANSWERING,
    INCIDENTAL,
    LOSS_SWITCHES,
    NOT_TRAINED,
    RATINGS,
    SPLIT_COLUMNS,
    bare,
    is_empty,
    is_harmless,
    names_answer,
    words_of,
)
from finetune_trainer.data.formats.states import is_taken_back
from finetune_trainer.data.reading.record import Record

NO_IS_TELLING = (RATINGS | ANSWERING | frozenset(LOSS_SWITCHES)) - {"toxic", "toxicity", "harmful"}
"""Words in the names of columns where 0 or false says something: a wrong answer, a class, a row that is not to be learned."""

METADATA = ("metadata", "meta")

LEAST_TITLE_WORDS = 2
"""So many words a title has that says something; the name of an article often has one."""

CERTAIN_LENGTH = 20
"""A text as long as this that stands in a message is the same text, not a word that happens to be there."""


def left_unread(record: Record, form: Format, messages: Sequence[Message]) -> dict[str, bool | None]:
    """Columns that are not read and not known to be harmless, unless they say again what the messages say."""
    record = {**record, **_beside_inner(record, form)} if form.inner else record
    left = [name for name, value in record.items() if name not in form.read and _matters(str(name), value, form)]
    read = [value for name, value in record.items() if name in form.read and isinstance(value, str) and value.strip()]
    return {
        name: holds_text(str(name), record[name])
        for name in left
        if not _said_already(record[name], messages) and not (len(read) > 1 and _holds_all(record[name], read))
    }


def holds_text(name: str, value: Any) -> bool | None:
    """Tell whether what is not read is text; None for a flag that says no, such as toxic: false, unless no means a bad answer."""
    is_no = isinstance(value, int | float) and not value and not words_of(name) & NO_IS_TELLING
    return None if is_no else isinstance(value, str)


def _beside_inner(record: Record, form: Format) -> Record:
    """What a column holds beside the values inside it that are read: by its name with dots, and of a list the next item."""
    inner = form.inner
    outer = {way for name in inner for way in ways(name)} - form.named
    found = {leaf.path: leaf.value for column in outer & record.keys() for leaf in leaves({column: record[column]})}
    beside = {path: value for path, value in found.items() if not any(_is_on_the_way(path, name) for name in inner)}
    return beside | {path: value for name in inner for path, value in _next_items(record, name)}


def _is_on_the_way(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _next_items(record: Record, name: str) -> Iterator[tuple[str, Any]]:
    """Yield of each list on the way to a value the item behind the one that is read."""
    parts = name.split(".")
    for depth, part in enumerate(parts):
        if depth and part.isdigit():
            path = ".".join((*parts[:depth], str(int(part) + 1)))
            whole = with_inner(record, [path])
            if path in whole:
                yield path, whole[path]


def _holds_all(value: Any, read: Sequence[str]) -> bool:
    """Tell whether a text is the whole row, written out: Alpaca's text is its other columns under headings."""
    return isinstance(value, str) and all(text.strip() in value for text in read)


def _matters(name: str, value: Any, form: Format) -> bool:
    """Whatever is not known to be harmless; beside plain text also what may be the answer to learn, such as a category."""
    if is_empty(value):
        return False
    beside_text = form.kind == TEXT and names_answer(name) and not isinstance(value, int | float)
    return (
        not is_harmless(name)
        or beside_text
        or _is_held_out(name, value)
        or is_taken_back(name, value)
        or _is_written(name, value)
        or _is_title(name, value)
    )


def _is_written(name: str, value: Any) -> bool:
    """Tell whether a column of metadata holds text: people write there what a question is about; programs write objects."""
    return bare(name) in METADATA and isinstance(value, str) and not value.lstrip().startswith(("{", "["))


def _is_title(name: str, value: Any) -> bool:
    """Tell a title of several words: that of a forum's thread is part of the question."""
    return (
        isinstance(value, str) and words_of(name) & INCIDENTAL == {"title"} and len(value.split()) >= LEAST_TITLE_WORDS
    )


def _is_held_out(name: str, value: Any) -> bool:
    """Tell whether a column says that its row is for tests."""
    return bare(name) in SPLIT_COLUMNS and isinstance(value, str) and bare(value) in NOT_TRAINED


def _said_already(value: Any, messages: Sequence[Message]) -> bool:
    if not isinstance(value, str):
        return False
    said = value.strip()
    if messages and all(text.strip() in said for text in _contents(messages)):
        return True  # the whole row, written out
    return any(said == text.strip() or (len(said) >= CERTAIN_LENGTH and said in text) for text in _contents(messages))


def _contents(messages: Sequence[Message]) -> list[str]:
    return [message["content"] for message in messages]
