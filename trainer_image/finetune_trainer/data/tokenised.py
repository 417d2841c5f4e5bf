"""Tokenised rows on disk: two Arrow columns, input_ids and labels, and a digest that no batching changes."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from finetune_trainer.chat.encoding import Tokens

SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])
BATCH_TOKENS = 1 << 19
"""Tokens held before they are written: 4 MiB of ids and labels."""


class Digest:
    """sha256 over row lengths, ids and labels, each as one stream: independent of batches and of Arrow's version."""

    def __init__(self) -> None:
        self._streams = [hashlib.sha256() for _ in range(3)]

    def add(self, lengths: Tokens, ids: Tokens, labels: Tokens) -> None:
        """Take in some rows."""
        for stream, values in zip(self._streams, (lengths, ids, labels), strict=True):
            stream.update(np.ascontiguousarray(values, dtype="<i4").data)

    def hex(self) -> str:
        """Return the digest so far."""
        return hashlib.sha256(b"".join(stream.digest() for stream in self._streams)).hexdigest()


class RowsWriter:
    """Writes rows to one Arrow stream file. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._sink, SCHEMA)
        self._digest = Digest()
        self._ids: list[Tokens] = []
        self._labels: list[Tokens] = []
        self._held = 0
        self.lengths: Counter[int] = Counter()
        """How many rows have each length."""

    def add(self, ids: Tokens, labels: Tokens) -> None:
        """Append a row."""
        self._ids.append(ids)
        self._labels.append(labels)
        self._held += len(ids)
        self.lengths[len(ids)] += 1
        if self._held >= BATCH_TOKENS:
            self._flush()

    @property
    def digest(self) -> str:
        """Digest of all rows; call it when all are added."""
        self._flush()
        return self._digest.hex()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is held and finish the file."""
        self._flush()
        self._writer.close()
        self._sink.close()

    def _flush(self) -> None:
        if not self._ids:
            return
        lengths = np.array([len(row) for row in self._ids], dtype=np.int32)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        ids, labels = np.concatenate(self._ids), np.concatenate(self._labels)
        self._digest.add(lengths, ids, labels)
        columns = [pa.ListArray.from_arrays(offsets, pa.array(values, pa.int32())) for values in (ids, labels)]
        self._writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
        self._ids, self._labels, self._held = [], [], 0


def read_rows(path: Path) -> Iterator[tuple[Tokens, Tokens]]:
    """Yield ids and labels of each row, one batch in memory at a time."""
    for lengths, ids, labels in read_batches(path):
        bounds = np.cumsum(lengths)[:-1]
        yield from zip(np.split(ids, bounds), np.split(labels, bounds), strict=True)


def read_batches(path: Path) -> Iterator[tuple[Tokens, Tokens, Tokens]]:
    """Yield row lengths, ids and labels of each batch."""
    with pa.OSFile(str(path), "rb") as source:
        for batch in pa.ipc.open_stream(source):
            if len(batch):
                yield _lengths(batch), *(column.flatten().to_numpy() for column in batch.columns)


def digest_of(path: Path) -> str:
    """Return the digest of the rows of a file."""
    digest = Digest()
    for lengths, ids, labels in read_batches(path):
        digest.add(lengths, ids, labels)
    return digest.hex()


def combined(digests: Iterable[str]) -> str:
    """Return the digest of a data set from those of its parts."""
    return "sha256:" + hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _lengths(batch: Any) -> Tokens:
    offsets = batch.column(0).offsets.to_numpy()
    lengths: Tokens = np.diff(offsets).astype(np.int32)
    return lengths
