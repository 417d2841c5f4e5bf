"""What both models are asked: a prompt as the rows were trained, the answer that the data gives, and the labels as answers.

Made by data.questions beside the prepared rows; asked by training.asking.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

QUESTIONS_FILE = "questions.jsonl"
HELD_OUT = -1
"""Number of the held-out rows among the sets of rows; those of a metric's own source count from 0."""

NO_ROWS = -2
"""What a task of lm-eval is measured on: it has documents of its own, which are no rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One row as a question."""

    rows: int
    """HELD_OUT, or which of `Evaluation.further_sources` it is from."""
    place: str
    """`train.jsonl row 17`"""
    prompt: tuple[int, ...]
    """Token ids up to the answer."""
    reference: str
    """What the data answers; of an answer that calls tools what it says beside them."""
    calls: tuple[Mapping[str, Any], ...] = ()
    """Tools that the reference calls: name and arguments."""
    answer_tokens: int = 0
    """Of the reference, with the token that ends it."""
    stem: tuple[int, ...] = ()
    """Token ids that all labels have in common."""
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Token ids after the stem where the answer is a label."""

    @property
    def longest(self) -> int:
        """Tokens of the longest text that is computed for its labels."""
        return len(self.stem) + max((len(ids) for ids in self.labels.values()), default=0)


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Write one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for question in questions:
            file.write(json.dumps(asdict(question), ensure_ascii=False) + "\n")


def read_questions(path: Path) -> list[Question]:
    """Read what write_questions has written."""
    with path.open(encoding="utf-8") as file:
        return [_question(json.loads(line)) for line in file]


def _question(data: dict[str, Any]) -> Question:
    labels = {label: tuple(ids) for label, ids in data["labels"].items()}
    return Question(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
        | {"labels": labels}
    )
