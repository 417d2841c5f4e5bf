"""A large file on its way to a bucket: in parts, which go on where they were interrupted, in the next Pod too. Called by bucket."""

import contextlib
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

PART_BYTES = 64 * 2**20
"""A file that is larger is sent in parts of this size."""

MOST_PARTS = 10_000
"""Of one upload, by S3's rule."""

PARALLEL_PARTS = 3
"""Of one file. Each is held in memory, and several files are sent at once."""


class Ask(Protocol):
    """The bucket."""

    def __call__(self, method: str, /, **given: Any) -> dict[str, Any]:
        """Send a request, repeat it while that may help, and return the answer. A refusal is an OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the local file."""

    number: int
    start: int
    size_bytes: int

    def read(self, file: Path) -> bytes:
        """Return its content."""
        with file.open("rb") as source:
            source.seek(self.start)
            return source.read(self.size_bytes)


def send_in_parts(ask: Ask, key: str, file: Path) -> None:
    """Send the parts that the bucket does not have yet. The object appears when all of them are there."""
    parts = planned(file.stat().st_size)
    upload, tags = _found(ask, key, file, parts)
    if not tags:
        upload = ask("create_multipart_upload", Key=key)["UploadId"]
    missing = [part for part in parts if part.number not in tags]
    with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
        sent = list(pool.map(partial(_send, ask, key, upload, file), missing))
    tags |= {part.number: tag for part, tag in zip(missing, sent, strict=True)}
    named = [{"PartNumber": part.number, "ETag": tags[part.number]} for part in parts]
    # an answer may be lost, and then the upload is gone when it is asked again: reading back tells
    with contextlib.suppress(FileNotFoundError):
        ask("complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload={"Parts": named})


def planned(size_bytes: int) -> list[Part]:
    """Cut a file into parts of one size; the last one is the rest."""
    each = max(PART_BYTES, -(-size_bytes // MOST_PARTS))
    starts = range(0, size_bytes, each)
    return [Part(number, start, min(each, size_bytes - start)) for number, start in enumerate(starts, 1)]


def abandon(ask: Ask, key: str) -> None:
    """Abort the uploads in progress of an object, or of all below a prefix: their parts cost money, and no listing shows them."""
    for found, upload in _in_progress(ask, key):
        _abort(ask, found, upload)


def _found(ask: Ask, key: str, file: Path, parts: list[Part]) -> tuple[str, dict[int, str]]:
    """Return the upload in progress with most of this file's parts, and their ETags. All others of this key are aborted."""
    best, tags = "", dict[int, str]()
    for found, upload in _in_progress(ask, key):
        if found != key:
            continue
        arrived = _arrived(ask, key, upload, file, parts)
        useless = upload
        if len(arrived) > len(tags):
            useless, best, tags = best, upload, arrived
        if useless:
            _abort(ask, key, useless)
    return best, tags


def _arrived(ask: Ask, key: str, upload: str, file: Path, parts: list[Part]) -> dict[int, str]:
    """Return the ETags of the parts that equal the local file's. An ETag that is not the MD5 (with SSE-KMS) equals nothing."""
    by_number = {part.number: part for part in parts}
    return {
        item["PartNumber"]: item["ETag"]
        for item in _pages(ask, "list_parts", "Parts", ("PartNumberMarker",), Key=key, UploadId=upload)
        if (part := by_number.get(item["PartNumber"])) is not None
        and item["Size"] == part.size_bytes
        and item["ETag"].strip('"') == hashlib.md5(part.read(file), usedforsecurity=False).hexdigest()
    }


def _in_progress(ask: Ask, key: str) -> list[tuple[str, str]]:
    """Return key and id of the uploads in progress of an object and of all below it as a prefix."""
    found = _pages(ask, "list_multipart_uploads", "Uploads", ("KeyMarker", "UploadIdMarker"), Prefix=key)
    return [(item["Key"], item["UploadId"]) for item in found if f"{item['Key']}/".startswith(f"{key}/")]


def _pages(ask: Ask, method: str, field: str, markers: tuple[str, ...], **given: str) -> Iterator[dict[str, Any]]:
    """Yield what is listed, nothing where the store refuses or cannot list: then an upload begins again."""
    with contextlib.suppress(OSError):
        while True:
            page = ask(method, **given)
            yield from page.get(field) or ()
            if not page.get("IsTruncated"):
                return
            given |= {marker: page[f"Next{marker}"] for marker in markers}


def _send(ask: Ask, key: str, upload: str, file: Path, part: Part) -> str:
    answer = ask("upload_part", Key=key, UploadId=upload, PartNumber=part.number, Body=part.read(file))
    return str(answer["ETag"])


def _abort(ask: Ask, key: str, upload: str) -> None:
    """Abort an upload, unless it is gone or that is not allowed: what is sent does not depend on it."""
    with contextlib.suppress(OSError):
        ask("abort_multipart_upload", Key=key, UploadId=upload)
