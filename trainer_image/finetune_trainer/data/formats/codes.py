"""Which columns hold no sentences but codes: numbers, dates, ids, addresses, or few short words again and again. Called by tried.

Nobody asks or answers in such a column, unless its name says that it holds a class.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_trainer.data.formats.inside import with_inner
from finetune_trainer.data.formats.leaves import Kind, Leaf, leaves
from finetune_trainer.data.formats.names import ROLES, SPEAKERS, bare, is_empty
from finetune_trainer.data.formats.saying import SURE, answers, asks
from finetune_trainer.data.reading.record import Record

CODE = re.compile(
    r"[-+]?\d[\d.,]*%?"  # a number
    r"|\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T]\d{1,2}:\d{2}\S*)?|\d{1,2}:\d{2}(:\d{2}\S*)?"  # a date, a time
    r"|(?=\S*\d)[0-9a-fA-F-]{8,}"  # a hash, a UUID
    r"|[a-z]+://\S+|\S+@\S+\.\w+|[\w./-]+/[\w.-]+\.\w{2,5}"  # addresses
    r"|[A-Za-z]{1,12}[-_#:]?\d+"  # T-1001, user_83
)
MOSTLY = 0.5
"""A column of which a larger part are codes holds codes."""

FEW_WORDS = 3
"""So many words a label has at most."""

LEAST = 3
"""Of fewer values nobody knows whether they come again."""

REPEATED = 0.7
"""So many of the values are different at most where the same labels come again."""

SHOWN = 3
"""So many labels a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """The columns of a data set that hold codes, by the names that lead to them, each with what it holds."""

    told: Mapping[str, str]

    def __contains__(self, path: str) -> bool:
        """Tell whether the values at a path are codes."""
        return path in self.told

    def sentence(self) -> str:
        """Say what the columns hold."""
        return ", ".join(f"{name} holds {what}" for name, what in self.told.items())


NONE = Codes(told={})


def codes_in(record: Record, records: Sequence[Record]) -> Codes:
    """Return the columns that hold codes, by the first records; `record` is the fullest."""
    texts = [leaf for leaf in leaves(record, harmless=True) if _is_word(leaf)]
    held = {leaf.path: [with_inner(one, [leaf.path]).get(leaf.path) for one in records] for leaf in texts}
    return Codes(told={path: what for path, values in held.items() if (what := _codes(values))})


def _is_word(leaf: Leaf) -> bool:
    """Tell a text whose name does not say what it is: a column response may hold yes and no; a column user often holds names."""
    is_sure = SURE in (answers(leaf), asks(leaf)) and bare(leaf.names[-1]) not in SPEAKERS
    return leaf.kind is Kind.TEXT and isinstance(leaf.value, str) and not is_sure


def _codes(values: Sequence[Any]) -> str:
    """Say which codes some values are; empty for sentences."""
    texts = [str(value).strip() for value in values if not is_empty(value)]
    if sum(CODE.fullmatch(text) is not None for text in texts) > MOSTLY * len(texts):
        return "numbers, dates, ids or addresses"
    labels = list(dict.fromkeys(texts))
    if all(text.lower() in ROLES for text in texts) and (len(labels) > 1 or 0 < len(texts) < LEAST):
        return "who speaks"
    repeated = len(texts) >= LEAST and len(labels) <= REPEATED * len(texts)
    if not repeated or any(len(text.split()) > FEW_WORDS for text in labels):
        return ""
    shown = ", ".join(labels[:SHOWN]) + (", ..." if len(labels) > SHOWN else "")
    return (
        f"the same text in every row ({shown})" if len(labels) == 1 else f"only {len(labels)} different texts ({shown})"
    )
