"""Tables as text: CSV and TSV, with the separators and encodings that spreadsheets write."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import BinaryIO

from finetune_trainer.data.reading.record import Place, Record, Unreadable

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
        first = text.readline()
        separator, rest = separated(first)
        reader = csv.reader(chain(rest, text), delimiter=separator, strict=True)
        try:
            names = header(next(reader, []))
            for number, fields in enumerate((row for row in reader if row), start=1):
                yield number, _row(names, fields)
        except csv.Error as error:
            raise Unreadable(f"line {reader.line_num} is not CSV ({error})") from error


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
    if len(fields) != len(names):
        return Unreadable(
            f"it has {len(fields)} fields, not the {len(names)} of the first line: quote fields that contain the separator"
        )
    return dict(zip(names, fields, strict=True))
