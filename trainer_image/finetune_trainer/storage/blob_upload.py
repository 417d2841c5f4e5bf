"""A file on its way to a registry: in parts, which go on where they were interrupted, or as a whole. Called by registry."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import httpx2

from finetune_trainer.storage.registry_answers import Refused, good, pauses, will_pass

DATA = {"Content-Type": "application/octet-stream"}
BLOCK_BYTES = 2**20
UNPARTED = (400, 404, 405, 411, 415, 416, 501)
"""How registries say that they take a blob only as a whole."""


class Asked(Protocol):
    """The registry."""

    client: httpx2.Client

    def ask(self, method: str, url: str, **given: Any) -> httpx2.Response:
        """Send a request that may be repeated, and repeat it while that may help."""
        ...

    def has_blob(self, digest: str) -> bool:
        """Tell whether a blob is there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A blob on its way."""

    url: str
    arrived_bytes: int = 0
    least_bytes: int = 0
    """Of a part, by the registry's rule."""


class Content:
    """A file that is read anew each time it is sent."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        with self._file.open("rb") as source:
            while block := source.read(BLOCK_BYTES):
                yield block


def begun(registry: Asked) -> Upload:
    """Begin an upload."""
    response = good(registry.ask("POST", "blobs/uploads/", headers={"Content-Length": "0"}))
    least = response.headers.get("OCI-Chunk-Min-Length", "")
    return Upload(url=_place(response, ""), least_bytes=int(least) if least.isdigit() else 0)


def in_parts(registry: Asked, file: Path, part_bytes: int) -> Upload | None:
    """Send all parts, each from where the registry says that it is; None where it takes none. Raises Refused or TransportError."""
    upload, size, waits = begun(registry), file.stat().st_size, pauses()
    while upload.arrived_bytes < size:
        part = _part(file, upload, part_bytes)
        try:
            response = registry.client.patch(
                upload.url, content=part, headers=DATA | {"Content-Range": _range(upload, part)}
            )
        except httpx2.TransportError:
            if (pause := next(waits)) is None:
                raise
        else:
            if response.is_success:
                upload, waits = _after(response, upload, upload.arrived_bytes + len(part)), pauses()
                continue
            if response.status_code in UNPARTED and not upload.arrived_bytes:
                return None
            if not _goes_on(response) or (pause := next(waits)) is None:
                raise Refused(response)
        time.sleep(pause)
        upload = _found_again(registry, upload)
    return upload


def sent_whole(registry: Asked, digest: str, file: Path) -> None:
    """Send a file in one request. It cannot go on, so each try starts anew. Raises Refused or TransportError."""
    headers, waits = DATA | {"Content-Length": str(file.stat().st_size)}, pauses()
    while True:
        pause = next(waits)
        try:
            response = registry.client.put(_closing(begun(registry), digest), content=Content(file), headers=headers)
        except httpx2.TransportError:
            if pause is None:
                raise
        else:
            if pause is None or not will_pass(response):
                good(response)
                return
        time.sleep(pause)


def finished(registry: Asked, upload: Upload, digest: str, content: bytes) -> None:
    """Send the rest and name the digest, which the registry compares."""
    response = registry.ask("PUT", str(_closing(upload, digest)), content=content, headers=DATA)
    if not response.is_success and not registry.has_blob(digest):  # an answer may be lost, and then the upload is gone
        good(response)


def _part(file: Path, upload: Upload, part_bytes: int) -> bytes:
    with file.open("rb") as source:
        source.seek(upload.arrived_bytes)
        return source.read(max(part_bytes, upload.least_bytes))


def _range(upload: Upload, part: bytes) -> str:
    return f"{upload.arrived_bytes}-{upload.arrived_bytes + len(part) - 1}"


def _goes_on(response: httpx2.Response) -> bool:
    """Tell whether to ask where the upload stands: the part came at a wrong place, or the registry is busy or has forgotten it."""
    return will_pass(response) or response.status_code in (404, 416)


def _found_again(registry: Asked, upload: Upload) -> Upload:
    """Ask how far an upload has come; begin it again where the registry has forgotten it."""
    response = registry.ask("GET", upload.url)
    return _after(response, upload, 0) if response.is_success else begun(registry)


def _after(response: httpx2.Response, upload: Upload, sent: int) -> Upload:
    """Return where the upload goes on. `0-0` is said of nothing, too."""
    _, _, last = response.headers.get("Range", "").removeprefix("bytes=").partition("-")
    arrived = int(last) + 1 if last.isdigit() and last != "0" else sent
    return replace(upload, url=_place(response, upload.url), arrived_bytes=arrived)


def _place(response: httpx2.Response, before: str) -> str:
    url = response.headers.get("Location")
    return str(response.url.join(url)) if url else before


def _closing(upload: Upload, digest: str) -> httpx2.URL:
    return httpx2.URL(upload.url).copy_merge_params({"digest": digest})
