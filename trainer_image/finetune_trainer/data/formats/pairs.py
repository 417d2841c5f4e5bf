"""Which column holds the question of an answer, and pairs of columns whose names leave no doubt. Called by detect."""

from collections.abc import Iterator, Mapping

from finetune_trainer.data.formats.columns import first
from finetune_trainer.data.formats.names import COMPLETIONS, PROMPTS, SPEAKERS

SPOKEN = ("assistant", "gpt", "bot", "reply", "response", "answer", "completion", "a")
"""Answers of somebody: beside any other one a column user holds the name of a user, as in Sentiment140."""

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


def question_of(completion: str, names: Mapping[str, str]) -> str:
    """Return the column that holds the question to an answer; empty where none does."""
    spoken = completion in (names.get(name) for name in SPOKEN)
    known = (name for name in PROMPTS if spoken or name not in SPEAKERS)
    return first((name for name in known if names.get(name) != completion), names)


def paired(names: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the question and the answer of a known pair, unless other columns say that they are one of them."""
    if first(PROMPTS, names):
        return None
    found = next(_known(names), None)
    others = [name for name in COMPLETIONS if name in names and found and names[name] != found[1]]
    return None if others else found


def _known(names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((names[asked], names[answer]) for asked, answer in PAIRED if asked in names and answer in names)
