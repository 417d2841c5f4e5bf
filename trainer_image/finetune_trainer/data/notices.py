"""What people should know of rows that are trained all the same: answers that say nothing. Called by prepare."""

from collections.abc import Iterable, Iterator

from finetune_trainer.chat.conversation import Message
from finetune_trainer.data.corpus import Placed
from finetune_trainer.data.rows import Row


class EmptyAnswers:
    """Counts the rows with an answer that says nothing: a cell that was left empty, a filter that cut too much."""

    def __init__(self) -> None:
        self._seen = self._found = 0
        self._first = ""

    def watched(self, rows: Iterable[Placed]) -> Iterator[Placed]:
        """Yield the rows as they are, and look at each on its way."""
        for placed in rows:
            self._seen += 1
            if _says_nothing(placed.row):
                self._found += 1
                self._first = self._first or placed.place
            yield placed

    def warning(self) -> str:
        """Say how many there are, what it does and what to do; empty where there are none."""
        if not self._found:
            return ""
        return (
            f"{self._found} of {self._seen} rows ({100 * self._found / self._seen:.1f} %) have an empty answer, first "
            f"{self._first}: the model learns to end its turn at once. Remove them unless it is meant"
        )


def _says_nothing(row: Row) -> bool:
    return any(map(_is_empty_answer, row.messages[row.first_learned :]))


def _is_empty_answer(message: Message) -> bool:
    return message["role"] == "assistant" and not message.get("tool_calls") and not (message["content"] or "").strip()
