"""One data set as a stream of rows that can be read again and again."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from finetune_contract import Dataset

from finetune_trainer.data.counted import counted_again, discarded, sure
from finetune_trainer.data.formats.advice import exist, missing
from finetune_trainer.data.formats.chosen import named_columns, refuse_unknown
from finetune_trainer.data.formats.codes import codes_in
from finetune_trainer.data.formats.detect import ChatForm, Format, detect
from finetune_trainer.data.formats.inside import inner_names, with_inner
from finetune_trainer.data.formats.invalid import ClassUnnamed, Missing, NoForm, NotText, RowInvalid
from finetune_trainer.data.formats.leaves import leaves
from finetune_trainer.data.formats.rows import Row, to_row
from finetune_trainer.data.formats.spelling import Spellings
from finetune_trainer.data.formats.suggest import Suggestion
from finetune_trainer.data.formats.tried import instead, with_answer, without_answers, working
from finetune_trainer.data.formats.unread import Other, Unread, read_by_names
from finetune_trainer.data.hollow import Hollow
from finetune_trainer.data.invalid_rows import InvalidRows
from finetune_trainer.data.reading.files import DataFiles, data_files
from finetune_trainer.data.reading.record import named
from finetune_trainer.data.reading.records import Record, Unreadable, records
from finetune_trainer.errors import CountedError, UserError

LOOKED_AT = 100
"""So many records are looked at where the first one does not tell its form."""


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
        self._skipped: set[int] = set()
        """The places of rows that cannot be used in the order of the files."""
        self._unread, self._spellings, self._hollow = Unread(), Spellings(dataset), Hollow()
        self._named = named_columns(dataset)
        self._inner = tuple(name for name in self._named if "." in name)
        """Of these the names that may lead into another column."""
        self._inside: dict[str, None] = {}
        self._remedies: dict[str, str] = {}
        """By what a column holds in place of text."""
        self._folder: Path | None = None
        self._share = 1.0

    @property
    def uri(self) -> str:
        """Where the data set is."""
        return self.files.store.uri

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the rows and files should know; complete once all rows were read."""
        read = read_by_names(self._first, self.uri) if self._first and not self._plain else ""
        unread = self._unread.warning(self.uri, self._first, self._other()) if self._first and not self._plain else ""
        told = (*self.files.warnings, read, unread, self._spellings.warning(self.uri), self.invalid.warning())
        return tuple(filter(None, told))

    def _other(self) -> Other:
        """Return how else the row of which the most is not read could be read."""
        asked = self._unread.example, self.dataset, self._chat
        return Other(
            suggested=working(*asked, codes_in(self._unread.example, self._whole())), unwritten=with_answer(*asked)
        )

    def fetch(self, into: Path) -> None:
        """Bring the files here, so that reading them twice costs nothing."""
        self._folder = self.files.fetch(into)

    def sample(self, share: float) -> None:
        """Read only the beginning of each file from now on, so large a share of it."""
        self._share = share

    def fingerprints(self) -> Iterator[int]:
        """Yield the hash of each row that can be used, and count the others.

        Raises UserError(DatasetInvalid) at the end for a name of the job that nothing in the data has.
        """
        self.invalid, self._unread, self._skipped = self._no_invalid(), Unread(), set()
        self._spellings, self._hollow = Spellings(self.dataset), Hollow()
        for index, (file, number, record) in enumerate(self._records()):
            self.invalid.seen += 1
            try:
                if isinstance(record, Unreadable):
                    raise record
                row = self._row(record)
                fingerprint = row.fingerprint()
            except (RowInvalid, Unreadable) as problem:
                self._count(file, number, problem, record)
                self._skipped.add(index)
                continue
            self._unread.row(row.unread, record)
            self._spellings.row(row.spelt)
            self._hollow.row(row)
            yield fingerprint
        self.invalid.beside, self.invalid.besides = self._hollow.told(), self._hollow.besides()
        if self._formats:
            refuse_unknown(
                self._named, itertools.chain(*self._formats, self._inside), in_rows(self.uri, self.invalid.seen)
            )
        self._spellings.check(self.uri)

    def _count(self, file: str, number: int, problem: RowInvalid | Unreadable, record: Record | Unreadable) -> None:
        parts = problem.parts if isinstance(problem, RowInvalid) else (problem,)
        self._hollow.missing += any(isinstance(part, Missing) and self._is_answer(part.columns) for part in parts)
        skippable = not any(isinstance(part, ClassUnnamed) for part in parts)
        told = [self._told(part, record) for part in parts]
        by_remedy = {one.partition(": set ")[2] or one: one for one in reversed(told)}  # several may have the same one
        self.invalid.add(file, number, list(reversed(by_remedy.values())), skippable=skippable)

    def _is_answer(self, columns: tuple[str, ...]) -> bool:
        return self._first is not None and self._first.completion in columns

    def rows(self) -> Iterator[Placed]:
        """Yield the rows that can be used, in the order of the files; call fingerprints first, which finds the others."""
        for index, (file, number, record) in enumerate(self._records()):
            if index not in self._skipped:
                yield Placed(row=self._row(record), file=file, number=number, invalid=self.invalid)

    @property
    def form(self) -> Format | None:
        """How the rows are read, as the first one tells; None before one was read."""
        return self._first

    @property
    def formats(self) -> Mapping[tuple[str, ...], Format]:
        """How rows with certain columns are read."""
        return self._formats

    def reading(self, dataset: Dataset) -> "Corpus":
        """Return the same files read as another dataset says."""
        return Corpus(dataset, self._chat, documents=self._plain)

    def suggestion(self) -> Suggestion | None:
        """Return what a job could say of the columns so that rows are read; None where nothing tells."""
        fullest = self._fullest()
        return next(working(fullest, self.dataset, self._chat, codes_in(fullest, self._whole())), None)

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
        record = _with_names(record)
        if isinstance(record, Unreadable):
            raise record
        if self._inner:
            self._inside.update(dict.fromkeys(inner_names(record)))
            record = with_inner(record, self._inner)
        return to_row(record, self._format(record))

    def _told(self, problem: RowInvalid | Unreadable, record: Record | Unreadable) -> str:
        """Say what is wrong with a row; of a column that holds no text, under which names the text is."""
        if not isinstance(problem, RowInvalid) or not isinstance(record, dict):
            return str(problem)
        if self._fits_another_form(record):
            return (
                f"it has the columns {exist(record)}, which are another form than that of the first row: move such rows into a file "
                "of their own and add it to datasets"
            )
        if not isinstance(problem, NotText):
            return str(problem)
        if problem.what not in self._remedies:
            self._remedies[problem.what] = instead(
                problem, record, self.dataset, self._chat, codes_in(record, self._whole())
            )
        return self._remedies[problem.what]

    def _fits_another_form(self, record: Record) -> bool:
        """Tell whether a row has none of the columns that the others are read by, and could be read by its own."""
        if self._first is None or any(record.get(column) is not None for column in self._first.read):
            return False
        try:
            return detect(self.dataset, record, self.uri, self._chat).kind != self._first.kind
        except (UserError, NoForm):
            return False

    def _format(self, record: Record) -> Format:
        """Return how records with these columns are read: the first one tells the kind, the others may name it otherwise."""
        columns = tuple(record)
        if columns not in self._formats:
            self._formats[columns] = self._detected(record)
        return self._formats[columns]

    def _detected(self, record: Record) -> Format:
        if self._first is None:
            self._first = self._told_by(record)
            return self._first
        try:
            return detect(self.dataset, record, self.uri, self._chat, wanted=self._first.kind)
        except (UserError, NoForm):
            return self._first  # it says which column is missing

    def _told_by(self, record: Record) -> Format:
        """Return what the first record tells, or the fullest of the first ones where it tells nothing."""
        try:
            return detect(self.dataset, record, self.uri, self._chat)
        except UserError:
            fullest = record
        except NoForm:
            fullest = self._fullest()
        counted = self._counted()
        try:
            return detect(self.dataset, fullest, counted, self._chat)
        except CountedError as problem:
            raise counted_again(problem, self._every()) from problem
        except NoForm as problem:
            asked = fullest, self.dataset, self._chat
            codes = codes_in(fullest, self._whole())
            suggested = sure(next(working(*asked, codes), None), self._whole())
            written = with_answer(*asked) or ("" if suggested else without_answers(*asked, codes))
            told = suggested if suggested and "text" not in suggested.columns else written or suggested
            raise UserError("DatasetInvalid", missing(fullest, counted, told) + discarded(self._every())) from problem

    def _counted(self) -> str:
        """Return the place of the data and how many rows a refusal of all of them is about; large data is not counted."""
        return in_rows(self.uri, sum(1 for _ in self._records())) if self._folder else self.uri

    def _fullest(self) -> Record:
        """Return the record of which most can be read: it says more than the others."""
        fullest: Record = max(self._whole(), key=lambda record: len(leaves(record)), default={})
        return with_inner(fullest, self._inner)

    def _whole(self) -> list[Record]:
        """Return those of the first records that are whole."""
        first = (_with_names(record) for _, _, record in itertools.islice(self._records(), LOOKED_AT))
        return [record for record in first if isinstance(record, dict)]

    def _every(self) -> Iterator[Record]:
        """Yield all records that are whole; none of large data."""
        records = self._records() if self._folder else iter(())
        return (record for _, _, record in records if isinstance(record, dict))

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


def in_rows(uri: str, rows: int) -> str:
    """Return a place and how many rows it holds, for a sentence about all of them."""
    return f"{uri} ({rows:,} rows)" if rows > 1 else uri


def _with_names(record: Record | Unreadable) -> Record | Unreadable:
    """Leave a column without a name out of a record."""
    if isinstance(record, dict) and "" in record:
        return named(tuple(record), tuple(record.values()))
    return record
