"""Keys and role words that a job names: whether any message has them. What none has is a slip of the pen, and is told."""

from collections.abc import Iterable

from finetune_contract import Dataset

from finetune_trainer.data.formats.messages import Spelling
from finetune_trainer.data.reading.nearest import did_you_mean, nearest
from finetune_trainer.errors import UserError


class Spellings:
    """Collects what the messages of a data set hold of what its job names."""

    def __init__(self, dataset: Dataset) -> None:
        keys = (("columns.role", dataset.columns.role), ("columns.content", dataset.columns.content))
        self._keys = [(field, key) for field, key in keys if key]
        self._words = list(dataset.roles)
        self._found: set[Spelling] = set()
        self._rows = 0

    def row(self, spelt: Iterable[Spelling]) -> None:
        """Take in one row that can be used."""
        self._rows += 1
        self._found.update(spelt)

    def check(self, uri: str) -> None:
        """Raise UserError(DatasetInvalid) for a key that the job names where no row has messages with keys."""
        unknown = [f"{field} names {key}" for field, key in self._keys if (field, key) not in self._found]
        if unknown and self._rows:
            raise UserError(
                "DatasetInvalid",
                f"{uri}: {' and '.join(unknown)}, but its rows hold no messages with keys: remove it, or name the column of "
                "the messages in columns.messages",
            )

    def warning(self, uri: str) -> str:
        """Say which words of datasets[].roles no message has; empty where all are there."""
        said = {word for field, word in self._found if field == "roles"}
        unknown = [word for word in self._words if word not in said]
        if not unknown or not self._rows:
            return ""
        meant = (nearest(word, said - set(self._words)) for word in unknown)
        return (
            f"{uri}: datasets[].roles names {', '.join(unknown)}, which no message has: correct or remove it"
            f"{did_you_mean(meant)}"
        )
