"""One data set as a stream of rows that can be read again and again."""

import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from finetune_contract import Dataset

from finetune_trainer.data.formats.chosen import named_columns, refuse_unknown
from finetune_trainer.data.formats.detect import ChatForm, Format, detect
from finetune_trainer.data.formats.inside import inner_names, with_inner
from finetune_trainer.data.formats.invalid import RowInvalid
from finetune_trainer.data.formats.rows import Row, to_row
from finetune_trainer.data.formats.spelling import Spellings
from finetune_trainer.data.formats.unread import Unread
from finetune_trainer.data.invalid_rows import InvalidRows
from finetune_trainer.data.reading.files import DataFiles, data_files
from finetune_trainer.data.reading.record import named
from finetune_trainer.data.reading.records import Record, Unreadable, records
from finetune_trainer.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A row and where it was found, for messages."""

    row: Row
    file: str
    number: int
    invalid: InvalidRows
    """Where it is counted if it turns out that it cannot be used."""

    @property
    def place(self) -> str:
        """`train.jsonl row 17`."""
        return f"{self.file} row {self.number}"


class Corpus:
    """The rows of one data set."""

    def __init__(self, dataset: Dataset, chat: ChatForm, *, documents: bool = False) -> None:
        self.dataset = dataset
        self.files: DataFiles = data_files(dataset, documents=documents)
        self.invalid = self._no_invalid()
        self._chat = chat
        self._plain = documents
        """All that is learned is text, so other columns are of no interest."""
        self._first: Format | None = None
        self._formats: dict[tuple[str, ...], Format] = {}
        self._skipped: set[tuple[str, int]] = set()
        self._unread, self._spellings = Unread(), Spellings(dataset)
        self._named = named_columns(dataset)
        self._inner = tuple(name for name in self._named if "." in name)
        """Of these the names that may lead into another column."""
        self._inside: dict[str, None] = {}
        self._folder: Path | None = None
        self._share = 1.0

    @property
    def uri(self) -> str:
        """Where the data set is."""
        return self.files.store.uri

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the rows and files should know; complete once all rows were read."""
        unread = self._unread.warning(self.uri, self._first) if self._first and not self._plain else ""
        return tuple(
            filter(None, (*self.files.warnings, unread, self._spellings.warning(self.uri), self.invalid.warning()))
        )

    def fetch(self, into: Path) -> None:
        """Bring the files here, so that reading them twice costs nothing."""
        self._folder = self.files.fetch(into)

    def sample(self, share: float) -> None:
        """Read only the beginning of each file from now on, so large a share of it."""
        self._share = share

    def fingerprints(self) -> Iterator[int]:
        """Yield the hash of each row that can be used, and count the others. Raises UserError(DatasetInvalid) at the end."""
        self.invalid, self._unread, self._skipped = self._no_invalid(), Unread(), set()
        self._spellings = Spellings(self.dataset)
        for file, number, record in self._records():
            self.invalid.seen += 1
            try:
                row = self._row(record)
                fingerprint = row.fingerprint()
            except (RowInvalid, Unreadable) as problem:
                self.invalid.add(file, number, str(problem))
                self._skipped.add((file, number))
                continue
            self._unread.row(row.unread)
            self._spellings.row(row.spelt)
            yield fingerprint
        if self._formats:
            refuse_unknown(self._named, itertools.chain(*self._formats, self._inside), self.uri)
        self.invalid.check()
        self._spellings.check(self.uri)

    def rows(self) -> Iterator[Placed]:
        """Yield the rows that can be used, in the order of the files; call fingerprints first, which finds the others."""
        for file, number, record in self._records():
            if (file, number) not in self._skipped:
                yield Placed(row=self._row(record), file=file, number=number, invalid=self.invalid)

    @property
    def form(self) -> Format | None:
        """How the rows are read, as the first one tells; None before one was read."""
        return self._first

    def reading(self, dataset: Dataset) -> "Corpus":
        """Return the same files read as another dataset says."""
        return Corpus(dataset, self._chat, documents=self._plain)

    def first_record(self) -> Record | None:
        """Return the first record as it is written; None where there is none that can be read."""
        return next((record for _, _, record in self._records() if isinstance(record, dict)), None)

    def first_rows(self, count: int) -> list[Placed]:
        """Return the first rows that can be used."""
        return list(itertools.islice(self._usable_rows(), count))

    def _usable_rows(self) -> Iterator[Placed]:
        for file, number, record in self._records():
            with suppress(RowInvalid, Unreadable):  # fingerprints counts them
                yield Placed(row=self._row(record), file=file, number=number, invalid=self.invalid)

    def _no_invalid(self) -> InvalidRows:
        dataset = self.dataset
        return InvalidRows(self.uri, skip=dataset.invalid_rows == "skip", max_percent=dataset.invalid_max_percent)

    def _row(self, record: Record | Unreadable) -> Row:
        if isinstance(record, dict) and "" in record:
            record = named(tuple(record), tuple(record.values()))
        if isinstance(record, Unreadable):
            raise record
        if self._inner:
            self._inside.update(dict.fromkeys(inner_names(record)))
            record = with_inner(record, self._inner)
        return to_row(record, self._format(record))

    def _format(self, record: Record) -> Format:
        """Return how records with these columns are read: the first one tells the kind, the others may name it otherwise."""
        columns = tuple(record)
        if columns not in self._formats:
            self._formats[columns] = self._detected(record)
        return self._formats[columns]

    def _detected(self, record: Record) -> Format:
        if self._first is None:
            self._first = detect(self.dataset, record, self.uri, self._chat)
            return self._first
        try:
            return detect(self.dataset, record, self.uri, self._chat, wanted=self._first.kind)
        except UserError:
            return self._first  # it says which column is missing

    def _records(self) -> Iterator[tuple[str, int, Record | Unreadable]]:
        for file in self.files.files:
            with (self._folder / file.path).open("rb") if self._folder else self.files.store.open(file.path) as opened:
                try:
                    stop_at = max(1, int(file.size_bytes * self._share)) if self._share < 1 else 0
                    yield from ((file.path, *place) for place in records(opened, file.path, stop_at=stop_at))
                except UserError as error:
                    raise UserError(error.reason, f"{self.uri}: {error.message}{self._aside()}") from error

    def _aside(self) -> str:
        """A folder may hold files that are no data."""
        return (
            "; if that file is not data, select the others with a glob such as *.jsonl"
            if len(self.files.files) > 1
            else ""
        )
