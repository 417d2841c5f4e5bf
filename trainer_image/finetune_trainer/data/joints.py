"""How prompt and answer are written where the model has no chat template: one behind the other. Called by row_encoder."""

from collections.abc import Iterable, Iterator

from finetune_trainer.data.corpus import Placed

SHOWN = 24
"""Characters of an example on both sides of the joint."""


class Joints:
    """Counts rows of a prompt and an answer, and shows how the first of them is written."""

    def __init__(self) -> None:
        self._seen = self._joined = 0
        self._first = ""

    def watched(self, rows: Iterable[Placed]) -> Iterator[Placed]:
        """Yield the rows as they are, and look at each on its way."""
        for placed in rows:
            self._seen += 1
            if placed.row.prompt and placed.row.text:
                self._joined += 1
                self._first = self._first or placed.row.prompt[-SHOWN:] + placed.row.text[:SHOWN]
            yield placed

    def warning(self) -> str:
        """Say how rows are written, with an example, and how to change it; empty where there are none."""
        if not self._joined:
            return ""
        return (
            f"the model has no chat template, so {self._joined} of {self._seen} rows are written as text, the answer right behind the "
            f"prompt, such as {self._first!r}: set chat.template: chatml to write them as turns, or end the prompts (or promptTemplate) "
            'with what is to stand between, such as "\\nAnswer: "'
        )
