"""Parquet and Arrow: typed columns, with what Arrow put in taken out again and the names of class labels put in."""

import io
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from finetune_trainer.data.reading.record import Place, Record, Unreadable

Labels = Mapping[str, list[str]]
"""Names of the classes by column."""


def parquet(file: BinaryIO, stop_at: int = 0) -> Iterator[Place]:
    """Columns lie apart in the file, so a part of it is told by its share of the rows."""
    opened = pq.ParquetFile(file)
    size = file.seek(0, io.SEEK_END)
    wanted = max(1, opened.metadata.num_rows * stop_at // size) if stop_at else None
    labels = class_labels(opened.schema_arrow)
    yield from islice(_rows(opened.iter_batches(batch_size=512), labels), wanted)


def arrow(file: BinaryIO) -> Iterator[Place]:
    """The file format or the stream format."""
    try:
        reader = pa.ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        stream = pa.ipc.open_stream(file)
        yield from _rows(iter(stream), class_labels(stream.schema))
        return
    batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
    yield from _rows(batches, class_labels(reader.schema))


def _refuse_repeated(schema: pa.Schema) -> None:
    """Arrow allows a name twice; a record would keep the last column in silence."""
    twice = next((name for name in schema.names if schema.names.count(name) > 1), "")
    if twice:
        raise Unreadable(f"it has the column {twice!r} twice, and only one could be read: rename or remove one")


def class_labels(schema: pa.Schema) -> Labels:
    """Return the names of ClassLabel columns, which the library `datasets` keeps in the schema and writes as numbers."""
    _refuse_repeated(schema)
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {
            name: list(feature["names"])
            for name, feature in described.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _rows(batches: Iterator[pa.RecordBatch], labels: Labels) -> Iterator[Place]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield number, _named(row, labels) if labels else {name: plain(value) for name, value in row.items()}


def _named(row: Record, labels: Labels) -> Record:
    return {name: _class(value, labels[name]) if name in labels else plain(value) for name, value in row.items()}


def _class(value: Any, names: list[str]) -> Any:
    """Return the name of a class; datasets writes -1 where there is none."""
    if not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def plain(value: Any) -> Any:
    """Take out what Arrow put in: nulls for keys that other rows have, maps as lists of pairs, text as bytes."""
    match value:
        case dict():
            return {key: plain(item) for key, item in value.items() if item is not None}
        case [tuple(), *_]:
            return {key: plain(item) for key, item in value if item is not None}
        case list():
            return [plain(item) for item in value]
        case bytes():
            return _decoded(value)
        case _:
            return value


def _decoded(value: bytes) -> str | bytes:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value
