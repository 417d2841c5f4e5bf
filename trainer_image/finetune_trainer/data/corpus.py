"""One data set as a stream of rows that can be read again and again."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetune_contract import Dataset

from finetune_trainer.data.advice import unread
from finetune_trainer.data.files import DataFiles, data_files
from finetune_trainer.data.records import Record, records
from finetune_trainer.data.rows import ChatForm, Format, Row, RowInvalid, detect, to_row
from finetune_trainer.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A row and where it was found, for messages."""

    row: Row
    file: str
    number: int

    @property
    def place(self) -> str:
        """`train.jsonl row 17`."""
        return f"{self.file} row {self.number}"


class Corpus:
    """The rows of one data set."""

    def __init__(self, dataset: Dataset, form: ChatForm) -> None:
        self.dataset = dataset
        self.files: DataFiles = data_files(dataset)
        self._form = form
        self._folder: Path | None = None
        self._share = 1.0
        self.warning = ""
        """What a reader of the first row would ask about; known once rows were read."""

    @property
    def uri(self) -> str:
        """Where the data set is."""
        return self.files.store.uri

    def fetch(self, into: Path) -> None:
        """Bring the files here, so that reading them twice costs nothing."""
        self._folder = self.files.fetch(into)

    def sample(self, share: float) -> None:
        """Read only the beginning of each file from now on, so large a share of it."""
        self._share = share

    def rows(self) -> Iterator[Placed]:
        """Yield all rows in the order of the files. Raises UserError(DatasetInvalid) naming file and row."""
        form: Format | None = None
        for file, number, record in self._records():
            if form is None:
                form = detect(self.dataset.format, self.dataset.columns, record, self.uri, chat=self._form)
                named = form.columns
                self.warning = unread(form.kind, named.prompt, named.completion, named.text, record, self.uri)
            try:
                yield Placed(row=to_row(record, form), file=file, number=number)
            except RowInvalid as problem:
                raise UserError("DatasetInvalid", f"{self.uri}: {file} row {number}: {problem}") from problem

    def fingerprints(self) -> Iterator[int]:
        """Yield the hash of each row. Raises as rows does."""
        for placed in self.rows():
            try:
                yield placed.row.fingerprint()
            except RowInvalid as problem:
                raise UserError("DatasetInvalid", f"{self.uri}: {placed.place}: {problem}") from problem

    def first_rows(self, count: int) -> list[Placed]:
        """Return the first rows."""
        return list(itertools.islice(self.rows(), count))

    def _records(self) -> Iterator[tuple[str, int, Record]]:
        for file in self.files.files:
            with (self._folder / file.path).open("rb") if self._folder else self.files.store.open(file.path) as opened:
                try:
                    stop_at = max(1, int(file.size_bytes * self._share)) if self._share < 1 else 0
                    yield from ((file.path, *place) for place in records(opened, file.path, stop_at=stop_at))
                except UserError as error:
                    raise UserError(error.reason, f"{self.uri}: {error.message}") from error
