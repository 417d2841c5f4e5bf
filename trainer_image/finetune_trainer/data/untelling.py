"""Rows that hint at a wrong column: questions that are nothing but an id or a date, one answer to all questions. Called by row_encoder."""

from collections.abc import Iterable, Iterator

from finetune_trainer.data.corpus import Placed
from finetune_trainer.data.formats.codes import CODE
from finetune_trainer.data.formats.rows import Row
from finetune_trainer.data.hollow import answers_of
from finetune_trainer.data.notices import Notice
from finetune_trainer.data.reading.foreign import MEDIA_FILES

SHOWN = 40
"""So many characters of an answer the warning shows."""

LEAST_ROWS = 5
"""Of fewer rows the same answer may be meant."""


def coded_questions() -> Notice:
    """A question that says nothing to a model: the name of a user, the address of a page, the file of a picture."""
    return Notice(
        _code,
        "have a question that is nothing but a number, a date, an id or an address ({words}), first {first}: a model cannot look it up. "
        "Name the column of the question in columns.prompt, or write what it stands for",
    )


def _code(row: Row) -> list[str]:
    said = [message["content"] or "" for message in row.messages if message["role"] == "user"]
    asked = (said or [row.prompt])[0].strip() if len(said) < 2 else ""  # a later turn may be a number
    return [asked] if CODE.fullmatch(asked) or ("\n" not in asked and asked.lower().endswith(MEDIA_FILES)) else []


class SameAnswer:
    """Tells whether all rows have one and the same answer."""

    def __init__(self) -> None:
        self._rows = 0
        self._answers: set[str] = set()

    def watched(self, rows: Iterable[Placed]) -> Iterator[Placed]:
        """Yield the rows as they are, and look at each on its way."""
        for placed in rows:
            self._rows += 1
            if len(self._answers) < 2:
                self._answers.update(answers_of(placed.row))
            yield placed

    def warning(self) -> str:
        """Say what all answers are; empty where they differ."""
        answer = next(iter(self._answers), "") if len(self._answers) == 1 else ""
        if not answer or self._rows < LEAST_ROWS:
            return ""
        shown = answer if len(answer) <= SHOWN else f"{answer[:SHOWN]}..."
        return (
            f"all {self._rows:,} rows have the same answer ({shown}): the model learns to say it whatever is asked. If the answer stands "
            "in another column, name that in columns.completion"
        )
