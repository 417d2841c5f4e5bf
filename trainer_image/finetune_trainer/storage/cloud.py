"""A prefix in Google Cloud Storage or Azure Blob Storage. Called by opening.

An object appears whole or not at all. A result is read back and compared before its upload counts.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from importlib import import_module
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

from finetune_trainer.errors import ReportedError, StorageFull, StorageUnavailable, UserError
from finetune_trainer.storage.addresses import Address
from finetune_trainer.storage.keyed import KeyedStore
from finetune_trainer.storage.objects import Object, Objects
from finetune_trainer.storage.ranges import Ranges
from finetune_trainer.storage.store import Role, StoredFile, not_found, unauthorized


class CloudStore(KeyedStore):
    """Objects below one prefix."""

    def __init__(self, address: Address, role: Role, keys: dict[str, str]) -> None:
        account, container, path = _taken_apart(address)
        super().__init__(address.uri, role, path)
        self._container = container
        kind = _objects_of(address.scheme)
        try:
            self._objects: Objects = kind(account, container, keys)
        except ValueError as error:
            message = f"the credentials for the {role} {self.uri} cannot be read: {kind.identity}"
            raise unauthorized(role, message) from error

    def open(self, path: str) -> BinaryIO:
        """Open an object for reading in ranges."""
        key = self._key_of(path)
        with self._wording():
            size = self._objects.head(key).size_bytes
        return cast("BinaryIO", BufferedReader(Ranges(size, lambda start, end: self._range(key, start, end)), 2**20))

    def read_bytes(self, path: str, limit: int | None = None) -> bytes | None:
        """Return an object's content or its beginning."""
        key = self._key_of(path)
        with self._wording():
            try:
                size = self._objects.head(key).size_bytes
            except FileNotFoundError:
                return None
        return self._range(key, 0, size if limit is None else min(limit, size))

    def write_text(self, path: str, text: str) -> None:
        """Write a small object."""
        with self._wording():
            self._objects.put(self._key(path), text.encode())

    def create_text(self, path: str, text: str) -> bool:
        """Write only if there is no such object."""
        with self._wording():
            return self._objects.create(self._key(path), text.encode())

    def replace_text(self, path: str, old: str, new: str) -> bool:
        """Write only if the object still holds `old`: its version may not have changed since it was read."""
        with self._wording():
            try:
                return self._objects.replace(self._key(path), old.encode(), new.encode())
            except FileNotFoundError:
                return False

    def exists(self, path: str) -> bool:
        """Tell whether there is an object, or any below the prefix."""
        with self._wording():
            try:
                self._objects.head(self._key(path))
            except FileNotFoundError:
                return bool(self._listed(self._key(path)))
        return True

    def delete(self, path: str) -> None:
        """Remove an object or all below a prefix."""
        with self._wording():
            for key in (*(self._key(file.path) for file in self._listed(self._key(path))), self._key(path)):
                with contextlib.suppress(FileNotFoundError):
                    self._objects.delete(key)

    def _listed(self, prefix: str) -> tuple[StoredFile, ...]:
        found = self._objects.listed(f"{prefix}/" if prefix else "")
        return tuple(sorted(_described(item, self._prefix) for item in found))

    def _single(self) -> tuple[StoredFile, ...]:
        try:
            found = self._objects.head(self._prefix)
        except FileNotFoundError:
            return ()
        return (_described(found, self._prefix.rpartition("/")[0]),)

    def _range(self, key: str, start: int, end: int) -> bytes:
        if end <= start:
            return b""
        with self._wording():
            return self._objects.part(key, start, end)

    def _save(self, key: str, file: Path) -> None:
        with file.open("wb") as sink:
            for block in self._objects.blocks(key):
                sink.write(block)

    def _send(self, file: Path, path: str) -> None:
        key, size = self._key(path), file.stat().st_size
        if size:
            self._objects.put_file(key, file)
        else:
            self._objects.put(key, b"")

    def _digest(self, key: str) -> str:
        found = hashlib.sha256()
        for block in self._objects.blocks(key):
            found.update(block)
        return found.hexdigest()

    @contextlib.contextmanager
    def _wording(self) -> Iterator[None]:
        try:
            yield
        except ReportedError:
            raise
        except Exception as error:
            if (worded := self._worded(error)) is None:
                raise
            raise worded from error

    def _worded(self, error: Exception) -> Exception | None:
        where, identity = f"{self.role} {self.uri}", self._objects.identity
        if isinstance(error, FileNotFoundError):
            return not_found(self.role, f"the bucket or container {self._container} of the {where}")
        if getattr(error, "errno", None) == 28:
            return StorageFull(
                f"no space is left on the Pod's own disk for the {where}: free some space or raise the quota"
            )
        match self._objects.trouble(error):
            case "missing":
                return not_found(self.role, f"the bucket or container {self._container} of the {where}")
            case "refused":
                return unauthorized(self.role, f"the {where} refuses access: {identity}, and check its permissions")
            case "no identity":
                return unauthorized(self.role, f"there are no credentials for the {where}: {identity}")
            case "unreadable credentials":
                return unauthorized(self.role, f"the credentials for the {where} cannot be read: {identity}")
            case "unreachable":
                return StorageUnavailable(
                    f"the {where} does not answer ({type(error).__name__}): check its endpoint, or wait"
                )
        return (
            StorageUnavailable(f"the {where} does not answer ({type(error).__name__}): wait")
            if isinstance(error, OSError)
            else None
        )


def _objects_of(scheme: str) -> type[Objects]:
    """Return the client: each takes a second to import, and only one is needed."""
    name = {"az": "azure.AzureObjects", "gs": "google.GoogleObjects"}[scheme]
    module, _, kind = name.partition(".")
    found: type[Objects] = getattr(import_module(f"finetune_trainer.storage.{module}"), kind)
    return found


def _taken_apart(address: Address) -> tuple[str, str, str]:
    """Return account (Azure only), bucket or container, and path."""
    if address.scheme == "gs":
        return "", address.authority, address.path
    container, _, path = address.path.partition("/")
    if not path:
        raise UserError("InvalidSpec", f"{address.uri}: az:// needs three parts, such as az://ACCOUNT/CONTAINER/PATH")
    return address.authority, container, path


def _described(item: Object, base: str) -> StoredFile:
    path = item.key.removeprefix(f"{base}/" if base else "")
    return StoredFile(path=path, size_bytes=item.size_bytes, fingerprint=item.fingerprint)
