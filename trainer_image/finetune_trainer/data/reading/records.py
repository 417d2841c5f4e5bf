"""Files become records, one by one: dictionaries as they were written. Only the record at hand is in memory."""

import bz2
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

import pyarrow as pa
import zstandard

from finetune_trainer.data.reading.columnar import arrow, parquet
from finetune_trainer.data.reading.documents import documents
from finetune_trainer.data.reading.foreign import misnamed, rows_in_a_document
from finetune_trainer.data.reading.json_text import document, lines
from finetune_trainer.data.reading.kinds import DOCUMENTS, Kind, kind_of
from finetune_trainer.data.reading.record import Place, Record, Unreadable
from finetune_trainer.data.reading.spreadsheet import spreadsheet
from finetune_trainer.data.reading.tables import table
from finetune_trainer.errors import UserError
from finetune_trainer.storage.pages import BEGINNING_BYTES, page

__all__ = ["Place", "Record", "Unreadable", "records"]

POINTER = b"version https://git-lfs"
"""How the file begins that git leaves where git-lfs did not bring the content."""


TABLE_BYTES = 64 << 10
"""Read of a text file to tell whether it is a table: several rows, each with fields of some thousand characters."""


def records(file: BinaryIO, name: str, *, stop_at: int = 0) -> Iterator[Place]:
    """Yield the records of a file, whose kind is told by its name; `stop_at` ends it after about so many bytes.

    A row that cannot be read is yielded as Unreadable. Raises UserError(DatasetInvalid) where the whole file cannot be.
    """
    kind = kind_of(name)
    assert kind is not None, "files.py chooses files of known kinds only"
    try:
        _refuse_other_content(file, name, kind)
        if kind.suffix == ".parquet":
            yield from parquet(file, stop_at)
            return
        for place in READERS[kind.suffix](decompressed(file, kind)):
            yield place
            if stop_at and file.tell() >= stop_at:
                return
    except Unreadable as problem:
        raise UserError("DatasetInvalid", f"{name}: {problem}") from problem
    except UnicodeDecodeError as error:
        raise UserError(
            "DatasetInvalid", f"{name} is not UTF-8 text ({error.reason}): save the file as UTF-8"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise UserError(
            "DatasetInvalid", f"{name} cannot be decompressed ({error}): copy it again, or compress it again"
        ) from error
    except pa.ArrowInvalid as error:
        raise UserError("DatasetInvalid", f"{name} cannot be read as {kind.suffix[1:]}: {error}") from error


def decompressed(file: BinaryIO, kind: Kind) -> BinaryIO:
    """Return the content of a compressed file as a stream; a file that is not compressed as it is."""
    match kind.compression:
        case ".gz":
            return cast("BinaryIO", gzip.GzipFile(fileobj=file))
        case ".bz2":
            return cast("BinaryIO", bz2.BZ2File(file))
        case ".zst":
            unpacking = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False)
            return cast("BinaryIO", io.BufferedReader(unpacking))
        case _:
            return file


def _refuse_other_content(file: BinaryIO, name: str, kind: Kind) -> None:
    """Refuse what git or a download left in place of the data, and what another name would be read."""
    is_document = kind.suffix in DOCUMENTS and not kind.compression
    beginning = file.read(TABLE_BYTES if is_document else BEGINNING_BYTES)
    file.seek(0)
    if beginning.startswith(POINTER):
        raise Unreadable(
            "it is a git-lfs pointer, not the data: run `git lfs pull` in the repository (or download the file itself) and "
            "copy it again"
        )
    if found := page(beginning):
        raise Unreadable(
            f"{found}, not data: download the file again from its own address, and with a token if it needs one"
        )
    named = rows_in_a_document(name, beginning) if is_document else ""
    if kind.suffix not in DOCUMENTS:
        named = misnamed(name, beginning, kind.compression or kind.suffix)
    if named:
        raise Unreadable(named)


READERS: dict[str, Callable[[BinaryIO], Iterator[Place]]] = {
    ".jsonl": lines,
    ".ndjson": lines,
    ".json": document,
    ".csv": table,
    ".tsv": table,
    ".xlsx": spreadsheet,
    ".arrow": arrow,
    ".txt": documents,
    ".md": documents,
}
