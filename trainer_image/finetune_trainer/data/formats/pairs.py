"""Which column holds the question of an answer, and pairs of columns whose names leave no doubt. Called by detect."""

import re
from collections.abc import Iterator, Mapping

from finetune_trainer.data.formats.codes import CODE
from finetune_trainer.data.formats.columns import first
from finetune_trainer.data.formats.names import COMPLETIONS, PROMPTS, SPEAKERS
from finetune_trainer.data.reading.record import Record

SPOKEN = ("assistant", "gpt", "bot", "reply", "response", "answer", "completion", "a")
"""Answers of somebody: beside any other one a column user may hold the name of a user, which is one word, as in Sentiment140."""

PAIRED = (
    ("dialogue", "summary"),
    ("article", "highlights"),
    ("document", "summary"),
    ("text", "summary"),
    ("report", "summary"),
    ("article", "abstract"),
    ("description", "abstract"),
    ("documents", "tldr"),
    ("context", "response"),
    ("patient", "doctor"),
)
"""Columns of public data sets whose direction is not in doubt, the answer last; docs/reference/data.md names the sets."""


def question_of(completion: str, names: Mapping[str, str], record: Record) -> str:
    """Return the column that holds the question to an answer; empty where none does."""
    spoken = completion in (names.get(name) for name in SPOKEN)
    known = (name for name in PROMPTS if spoken or name not in SPEAKERS or " " in str(record.get(names.get(name, ""))))
    return first((name for name in known if names.get(name) != completion), names)


def paired(names: Mapping[str, str], record: Record) -> tuple[str, str] | None:
    """Return the question and the answer of a known pair, unless other columns say that they are one of them."""
    found = next(_known(names), None)
    if found is None or _is_code(record.get(found[0])):
        return None
    others = {_singular(name) for name in names if names[name] not in found}
    return None if others & {*PROMPTS, *COMPLETIONS} else found


def _is_code(value: object) -> bool:
    """Tell the number of a patient from what one asks."""
    return isinstance(value, str) and CODE.fullmatch(value.strip()) is not None


def _singular(name: str) -> str:
    return re.sub(r"ies\Z", "y", name.rstrip("0123456789")).removesuffix("s")


def _known(names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((names[asked], names[answer]) for asked, answer in PAIRED if asked in names and answer in names)
