"""Files become records, one by one: dictionaries as they were written. Only the record at hand is in memory."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from finetune_trainer.errors import UserError

Record = dict[str, Any]
Place = tuple[int, Record]
"""Number of the record in its file, counted from 1 as an editor shows it, and the record."""

LARGEST_JSON_BYTES = 512 << 20
"""A .json file is read whole, and parsed takes some five times its size."""

csv.field_size_limit(64 << 20)  # the default of 128 kB is less than one long document


class Unreadable(Exception):
    """A record that cannot be read; the message says which and why."""


def records(file: BinaryIO, name: str, *, stop_at: int = 0) -> Iterator[Place]:
    """Yield the records of a file, whose kind is told by its name; `stop_at` ends it after about so many bytes.

    Raises UserError(DatasetInvalid) naming the row.
    """
    suffix = name[name.rfind(".") :].lower()
    try:
        if suffix == ".parquet":
            yield from _parquet(file, stop_at)
            return
        for place in READERS[suffix](file):
            yield place
            if stop_at and file.tell() >= stop_at:
                return
    except Unreadable as problem:
        raise UserError("DatasetInvalid", f"{name}: {problem}") from problem
    except UnicodeDecodeError as error:
        raise UserError(
            "DatasetInvalid", f"{name} is not UTF-8 text ({error.reason}): save the file as UTF-8"
        ) from error
    except pa.ArrowInvalid as error:
        raise UserError("DatasetInvalid", f"{name} cannot be read as {suffix[1:]}: {error}") from error


def _lines(file: BinaryIO) -> Iterator[Place]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, _record(_parsed(line.removeprefix(b"\xef\xbb\xbf").strip(), number), number)


def _parsed(line: bytes, number: int) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Unreadable(f"row {number} is not UTF-8 text ({error.reason}): save the file as UTF-8") from error
    except RecursionError as error:
        raise Unreadable(f"row {number} is nested too deeply to be read: correct or remove that line") from error
    except ValueError as error:
        if line in (b"[", b"{"):
            raise Unreadable(f"row {number} is only {line.decode()}: a document over several lines is .json") from error
        raise Unreadable(f"row {number} is not JSON ({error}): correct or remove that line") from error


def _record(value: Any, number: int) -> Record:
    if not isinstance(value, dict):
        hint = ": a file that is one list is named .json" if isinstance(value, list) else ""
        raise Unreadable(f"row {number} is {type(value).__name__}, not an object with columns{hint}")
    return value


def _json(file: BinaryIO) -> Iterator[Place]:
    """A list of records, an object that holds one, or (as many tools write it) one record a line."""
    content = file.read(LARGEST_JSON_BYTES + 1)
    if len(content) > LARGEST_JSON_BYTES:
        raise Unreadable("a .json file of more than 512 MiB must be read whole: write one record a line, as .jsonl")
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from _lines(io.BytesIO(content))
            return
        raise Unreadable(f"line {error.lineno} is not JSON ({error.msg})") from error
    lists = [item for item in value.values() if isinstance(item, list)] if isinstance(value, dict) else [value]
    if len(lists) != 1 or not isinstance(lists[0], list):
        raise Unreadable("it is not a list of records, nor an object that holds one list")
    for number, item in enumerate(lists[0], start=1):
        yield number, _record(item, number)


def _csv(file: BinaryIO) -> Iterator[Place]:
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, strict=True)
        try:
            _refuse_other_separator(reader.fieldnames or ())
            for number, row in enumerate(reader, start=1):
                if None in row or None in row.values():
                    wanted = len(reader.fieldnames or ())
                    raise Unreadable(f"row {number} does not have the {wanted} fields of the first line: quote commas")
                yield number, row
        except csv.Error as error:
            raise Unreadable(f"line {reader.line_num} is not CSV ({error})") from error


def _refuse_other_separator(names: Sequence[str]) -> None:
    found = next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), "")
    if found:
        raise Unreadable(f"its first line has no comma but {found!r}: write the fields with commas between them")


def _parquet(file: BinaryIO, stop_at: int) -> Iterator[Place]:
    """Columns lie apart in the file, so a part of it is told by its share of the rows."""
    opened = pq.ParquetFile(file)
    size = file.seek(0, io.SEEK_END)
    wanted = max(1, opened.metadata.num_rows * stop_at // size) if stop_at else None
    yield from islice(_batches(opened.iter_batches(batch_size=512)), wanted)


def _arrow(file: BinaryIO) -> Iterator[Place]:
    try:
        reader = pa.ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        yield from _batches(iter(pa.ipc.open_stream(file)))
        return
    yield from _batches(reader.get_batch(index) for index in range(reader.num_record_batches))


def _batches(batches: Iterator[pa.RecordBatch]) -> Iterator[Place]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield number, {name: without_nulls(value) for name, value in row.items()}


def without_nulls(value: Any) -> Any:
    """Take out what Arrow put in: a struct column gives every record the keys of all, null where there was none."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


READERS: dict[str, Callable[[BinaryIO], Iterator[Place]]] = {
    ".jsonl": _lines,
    ".ndjson": _lines,
    ".json": _json,
    ".csv": _csv,
    ".arrow": _arrow,
}
