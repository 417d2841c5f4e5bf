"""What a program for annotation says became of an answer: a status beside it, such as discarded."""

from collections.abc import Iterator

from finetune_trainer.data.formats.names import bare, is_harmless, words_of
from finetune_trainer.data.reading.record import Record

STATES = frozenset(("status", "state"))
"""Words in the names of such columns; what else such a name says of a row is of no interest."""

TAKEN_BACK = (
    "discarded", "discard", "rejected", "reject", "ignored", "ignore", "skipped", "skip", "cancelled", "canceled", "deleted", "spam",
    "declined", "flagged", "invalid", "refused", "failed",
)  # fmt: skip
"""What they say of answers that nobody wanted to keep (Argilla, Label Studio, Doccano and others)."""


def is_state(name: str) -> bool:
    """Tell whether a column says what became of an annotation."""
    return bool(words_of(name) & STATES) and is_harmless(name)


def is_taken_back(name: str, value: object) -> bool:
    """Tell whether a column says that somebody discarded what its row holds, or one of its answers."""
    said = value if isinstance(value, list) else [value]
    return is_state(name) and any(isinstance(one, str) and bare(one) in TAKEN_BACK for one in said)


def taken_back(record: Record) -> Iterator[str]:
    """Yield the columns of a record that say so, or in which something does."""
    return (str(name) for name, value in record.items() if _says_so(str(name), value))


def _says_so(name: str, value: object) -> bool:
    if is_taken_back(name, value):
        return True
    if isinstance(value, dict):
        return any(_says_so(str(key), item) for key, item in value.items())
    return isinstance(value, list) and any(isinstance(item, dict) and _says_so("", item) for item in value)
