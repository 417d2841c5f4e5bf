"""Tables as text: CSV and TSV, with the separators and encodings that spreadsheets write."""

import csv
import io
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import BinaryIO, Literal

from finetune_trainer.data.reading.record import Place, Record, Unreadable, named
from finetune_trainer.data.reading.titles import Line, refuse_titles

UTF_16 = (b"\xff\xfe", b"\xfe\xff")
SEPARATORS = (",", ";", "\t", "|")
DECLARED = "sep="
"""Excel's own first line, which names the separator."""

csv.field_size_limit(64 << 20)  # the default of 128 kB is less than one long document


def table(file: BinaryIO) -> Iterator[Place]:
    """Yield the rows of a table whose first line names the columns."""
    beginning = file.read(2)
    file.seek(0)
    encoding = "utf-16" if beginning in UTF_16 else "utf-8-sig"
    with io.TextIOWrapper(file, encoding=encoding, newline="") as text:
        _refuse_titles(text)
        text.seek(0)
        separator, _rest = separated(text.readline())
        quoting = _quoting(text) if separator == "\t" else csv.QUOTE_MINIMAL
        text.seek(0)
        separator, rest = separated(text.readline())
        reader = csv.reader(chain(rest, text), delimiter=separator, quoting=quoting, strict=True)
        try:
            names = header(next(reader, []))
            for number, fields in enumerate((row for row in reader if any(row)), start=1):
                yield number, _row(names, fields)
        except csv.Error as error:
            raise Unreadable(
                f"line {reader.line_num} is not CSV ({error}): inside quotes a quote is written twice"
            ) from error


def _refuse_titles(text: io.TextIOWrapper) -> None:
    """Raise Unreadable for lines above the names; a title without any separator does not tell which one the table has."""
    first = text.readline()
    separator, rest = separated(first)
    if not rest:
        return
    is_title = separator not in first and not first.strip().islower()
    for mark in SEPARATORS if is_title else (separator,):
        text.seek(0)
        refuse_titles(_lines(text, mark))


def _lines(text: io.TextIOWrapper, separator: str) -> Iterator[Line]:
    """Yield each row with the number of the line in which it begins; what is no CSV is told elsewhere."""
    reader = csv.reader(text, delimiter=separator)
    begins = 1
    with suppress(csv.Error):
        for row in reader:
            yield begins, row
            begins = reader.line_num + 1


def _quoting(text: io.TextIOWrapper) -> Literal[0, 3]:
    """Tell whether quotes in a TSV enclose fields, as spreadsheets write it, or are letters like any other, as in IANA's definition.

    Where some fields are enclosed and others cannot be, nobody knows, and the line that fails is told.
    """
    try:
        deque(csv.reader(text, delimiter="\t", strict=True), maxlen=0)
    except csv.Error:
        text.seek(0)
        fields = (field for line in text for field in line.rstrip("\r\n").split("\t"))
        enclosed = any(len(field) > 1 and field[0] == field[-1] == '"' for field in fields)
        return csv.QUOTE_MINIMAL if enclosed else csv.QUOTE_NONE
    return csv.QUOTE_MINIMAL


def separated(first: str) -> tuple[str, list[str]]:
    """Return the separator and the lines that were read but hold columns: the first one, unless it names the separator."""
    if first.lower().startswith(DECLARED):
        return first[len(DECLARED) : len(DECLARED) + 1].strip("\r\n") or ",", []
    names = first.split('"')[::2]  # what stands outside quotes
    return max(SEPARATORS, key=lambda mark: sum(part.count(mark) for part in names)), [first]


def header(names: Sequence[str]) -> list[str]:
    """Return the names of the columns without spaces around them. Raises Unreadable for a name that stands there twice."""
    stripped = [name.strip() for name in names]
    twice = [name for name, times in Counter(stripped).items() if times > 1 and name]
    if twice:
        raise Unreadable(
            f"its first line names the column {twice[0]!r} twice, and only one could be read: rename or remove one"
        )
    return stripped


def _row(names: list[str], fields: list[str]) -> Record | Unreadable:
    if len(fields) >= len(names) and not any(fields[len(names) :]):  # separators behind the last field say nothing
        if len(names) > 1 and [field.strip() for field in fields[: len(names)]] == names:
            return Unreadable("it repeats the names of the columns, as joined files do: remove it")
        return named(names, fields[: len(names)])
    remedy = "quote fields that contain the separator"
    if len(fields) < len(names):
        remedy = "write the separators of empty fields too"
    elif len(names) == 1:
        remedy = "the first line names the columns, so remove what stands above their names"
    return Unreadable(f"it has {len(fields)} fields, not the {len(names)} of the first line: {remedy}")
