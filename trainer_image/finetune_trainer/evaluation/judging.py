"""What a judge is asked about two answers, and how its words are read. Pure. Called by training.judge."""

import re
from dataclasses import dataclass

from finetune_trainer.evaluation.scores.texts import said

CRITERIA = "Prefer the answer that is correct, complete, relevant and short, in this order."
SYSTEM = (
    "You compare two answers to the same request. {criteria} The order in which they are shown means nothing. Give your reasons in at most "
    "three sentences, then your verdict in double brackets: [[A]] or [[B]] for the better answer, [[C]] where both are equally good."
)
LONGEST_TEXT = 24_000
"""Characters of a request or an answer that are sent; what is longer is cut in the middle."""

VERDICT = re.compile(r"\[\[([ABC])\]\]")
SHARES = {"A": 1.0, "B": 0.0, "C": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two answers to one request, the first of which is A."""

    request: str
    reference: str
    first: str
    second: str

    @property
    def swapped(self) -> "Pair":
        """The same the other way round: judges prefer a place."""
        return Pair(request=self.request, reference=self.reference, first=self.second, second=self.first)


def messages(pair: Pair, criteria: str) -> list[dict[str, str]]:
    """Return the conversation that asks for a verdict."""
    parts = [
        ("Request", pair.request), ("Reference answer", pair.reference), ("Answer A", pair.first), ("Answer B", pair.second),
    ]  # fmt: skip
    text = "\n\n".join(f"## {title}\n{_cut(said(part))}" for title, part in parts)
    return [
        {"role": "system", "content": SYSTEM.format(criteria=criteria or CRITERIA)},
        {"role": "user", "content": text},
    ]


def share_of_first(words: str) -> float | None:
    """Return 1 where the first answer is preferred, 0 where the second is, a half for a tie; None without a verdict."""
    found = VERDICT.findall(said(words))
    return SHARES[found[-1]] if found else None


def _cut(text: str) -> str:
    half = LONGEST_TEXT // 2
    return text if len(text) <= LONGEST_TEXT else f"{text[:half]}\n[...]\n{text[-half:]}"
