"""The files in an artifact of a registry: which there are, a part of one, all of them brought here and checked. Called by oci.

A raw layer is a file. A tar layer that is not compressed is read in place: its headers say where each file begins.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, cast

from finetune_trainer.errors import UserError
from finetune_trainer.storage.addresses import confined
from finetune_trainer.storage.formats import ADAPTER_CONFIG, CONFIG
from finetune_trainer.storage.modelpack import Layer, layers_of
from finetune_trainer.storage.ranges import Ranges
from finetune_trainer.storage.registry import Registry
from finetune_trainer.storage.registry_answers import Changed
from finetune_trainer.storage.store import StoredFile

PARALLEL_TRANSFERS = 4
"""Layers in flight at once."""

HEADER_BYTES = 2**16
"""Read at once where the headers of a tar are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file in a layer."""

    path: str
    layer: Layer
    offset: int
    size_bytes: int

    @property
    def stored(self) -> StoredFile:
        """Return how a store describes it."""
        place = "" if self.layer.is_raw else f"+{self.offset}"
        return StoredFile(path=self.path, size_bytes=self.size_bytes, fingerprint=f"{self.layer.digest}{place}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One manifest of a registry."""

    digest: str
    manifest: dict[str, Any]
    layers: tuple[Layer, ...]


def read_artifact(registry: Registry, reference: str, uri: str) -> Artifact | None:
    """Return what is at a tag or digest; None where there is nothing. Raises UserError for an image of several platforms."""
    found = registry.manifest(reference)
    if found is None:
        return None
    digest, content = found
    try:
        manifest = json.loads(content)
        return Artifact(digest=digest, manifest=manifest, layers=layers_of(manifest))
    except ValueError as error:
        raise UserError(
            "InvalidSpec",
            f"{uri} is an index of images, not an artifact with files: name one of its artifacts by digest",
        ) from error


def entries_of(registry: Registry, layers: Iterable[Layer], uri: str) -> tuple[Entry, ...]:
    """Return the files in layers, sorted. Raises UserError for a layer that cannot be read in place."""
    found: dict[str, Entry] = {}
    for layer in layers:
        for entry in _in_layer(registry, layer, uri):
            found[entry.path] = entry  # as with the layers of an image, the last one counts
    return tuple(found[path] for path in sorted(found))


def rooted(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the files of a model as seen from its folder, where the whole model is in one folder."""
    homes = {
        str(PurePosixPath(entry.path).parent) for entry in entries if Path(entry.path).name in (CONFIG, ADAPTER_CONFIG)
    }
    if "." in homes or len(homes) != 1:
        return entries
    home = f"{homes.pop()}/"
    return tuple(replace(one, path=one.path.removeprefix(home)) for one in entries if one.path.startswith(home))


def part(registry: Registry, entry: Entry, start: int, end: int) -> bytes:
    """Return a part of a file."""
    first = entry.offset + start
    return b"".join(registry.blocks(entry.layer.digest, first, entry.offset + min(end, entry.size_bytes)))


def bring(registry: Registry, entries: Sequence[Entry], into: Path) -> None:
    """Write files into a folder, whole and checked; those that are there in their full size are left. Raises Changed."""
    missing = [entry for entry in entries if not _is_there(into / entry.path, entry.size_bytes)]
    layers = {entry.layer: [other for other in missing if other.layer == entry.layer] for entry in missing}
    with ThreadPoolExecutor(PARALLEL_TRANSFERS) as pool:
        list(pool.map(lambda wanted: _bring_layer(registry, wanted, into), layers.values()))


def _bring_layer(registry: Registry, wanted: list[Entry], into: Path) -> None:
    layer = wanted[0].layer
    if layer.is_raw:
        found, target = hashlib.sha256(), into / wanted[0].path
        _write(target, _hashed(registry.blocks(layer.digest, 0, layer.size_bytes), found), found, layer.digest)
    elif 2 * sum(entry.size_bytes for entry in wanted) < layer.size_bytes:
        for entry in wanted:  # preflight's: the descriptions beside the weights
            _write(into / entry.path, registry.blocks(layer.digest, entry.offset, entry.offset + entry.size_bytes))
    else:
        _unpack(registry, wanted, into)


def _unpack(registry: Registry, wanted: list[Entry], into: Path) -> None:
    """Read a tar from beginning to end, so that its digest can be checked before any file counts."""
    layer, found, at = wanted[0].layer, hashlib.sha256(), 0
    with ExitStack() as stack:
        files = [(entry, stack.enter_context(_partial(into / entry.path).open("wb"))) for entry in wanted]
        for block in _hashed(registry.blocks(layer.digest, 0, layer.size_bytes), found):
            for entry, file in files:
                first, end = max(entry.offset, at), min(entry.offset + entry.size_bytes, at + len(block))
                file.write(block[first - at : end - at] if first < end else b"")
            at += len(block)
    _check(found, layer.digest)
    for entry in wanted:
        _partial(into / entry.path).replace(into / entry.path)


def _write(target: Path, blocks: Iterator[bytes], found: "hashlib._Hash | None" = None, digest: str = "") -> None:
    partial = _partial(target)
    with partial.open("wb") as file:
        for block in blocks:
            file.write(block)
    if found is not None:
        _check(found, digest)
    partial.replace(target)


def _partial(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.part")


def _hashed(blocks: Iterator[bytes], found: "hashlib._Hash") -> Iterator[bytes]:
    for block in blocks:
        found.update(block)
        yield block


def _check(found: "hashlib._Hash", digest: str) -> None:
    if f"sha256:{found.hexdigest()}" != digest:
        raise Changed(f"the blob {digest} has the digest sha256:{found.hexdigest()}")


def _is_there(target: Path, size: int) -> bool:
    return target.is_file() and target.stat().st_size == size


def _in_layer(registry: Registry, layer: Layer, uri: str) -> Iterator[Entry]:
    if layer.is_raw:
        if not layer.path:
            raise UserError(
                "ModelInvalid", f"{uri} has a layer without a file name ({layer.digest[:19]}): package it again"
            )
        yield Entry(path=confined(layer.path, uri), layer=layer, offset=0, size_bytes=layer.size_bytes)
        return
    if layer.packed:
        raise UserError(
            "ModelUnsupported",
            f"{uri} has layers that are compressed with {layer.packed}, which cannot be read in parts: package it again without "
            "compression",
        )
    source = Ranges(layer.size_bytes, lambda start, end: b"".join(registry.blocks(layer.digest, start, end)))
    buffered = cast("io.RawIOBase", BufferedReader(source, HEADER_BYTES))
    try:
        with tarfile.open(fileobj=buffered, mode="r:") as archive:
            for member in archive:
                if member.isfile():
                    path = confined(member.name.removeprefix("./"), uri)
                    yield Entry(path=path, layer=layer, offset=member.offset_data, size_bytes=member.size)
    except tarfile.TarError as error:
        raise UserError("ModelInvalid", f"{uri} has a layer that is not a tar ({error}): package it again") from error
