"""What stores of objects have in common: keys below a prefix, listed, fetched and sent side by side. Base of bucket and cloud."""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from finetune_trainer.errors import StorageUnavailable
from finetune_trainer.storage.addresses import confined
from finetune_trainer.storage.base import StoreBase
from finetune_trainer.storage.store import Role, StoredFile, glob_base, matching, not_found
from finetune_trainer.storage.transfer import alone

PARALLEL_TRANSFERS = 8
"""Files in flight at once; each large file is itself sent and fetched in parts."""


class KeyedStore(StoreBase):
    """Objects below one prefix."""

    revision = ""

    def __init__(self, uri: str, role: Role, path: str) -> None:
        self.uri = uri
        self.role = role
        self._prefix, self._pattern = glob_base(path)

    @abstractmethod
    def _listed(self, prefix: str) -> tuple[StoredFile, ...]:
        """List all objects below a key, sorted."""

    @abstractmethod
    def _single(self) -> tuple[StoredFile, ...]:
        """Return the object whose key is the prefix, if there is one."""

    @abstractmethod
    def _save(self, key: str, file: Path) -> None:
        """Write an object's content, which is not empty, into a local file."""

    @abstractmethod
    def _send(self, file: Path, path: str) -> None:
        """Upload a local file."""

    @abstractmethod
    def _digest(self, key: str) -> str:
        """Return the sha256 of an object that is not empty, as it is read back; empty where it is missing or damaged."""

    @abstractmethod
    def _wording(self) -> AbstractContextManager[None]:
        """Turn what the client raises into what users read."""

    def files(self, under: str = "") -> tuple[StoredFile, ...]:
        """List all objects below a prefix."""
        with self._wording():
            found = self._listed(self._key(under))
            if not found and not under and self._prefix:
                return self._single()
            return matching(found, self._pattern) if self._pattern else found

    def fetch(self, into: Path, paths: Sequence[str] | None = None) -> Path:
        """Download the objects that are not there yet in their full size."""
        files = [file for file in self.files() if paths is None or file.path in paths]
        if not files:
            raise not_found(self.role, self.uri)
        with alone(into), self._wording(), ThreadPoolExecutor(PARALLEL_TRANSFERS) as pool:
            list(pool.map(lambda file: self._download(file, into), files))
        return into

    def upload(self, folder: Path, path: str = "") -> None:
        """Copy all files of a local folder, large ones in parts."""
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        names = [f"{path}/{file.relative_to(folder).as_posix()}".lstrip("/") for file in files]
        with self._wording(), ThreadPoolExecutor(PARALLEL_TRANSFERS) as pool:
            list(pool.map(self._deliver, files, names))

    def _deliver(self, file: Path, path: str) -> None:
        """Send a file. A result is read back and compared; a checkpoint's files are when it is resumed from, by its own digests."""
        self._send(file, path)
        if self.role is Role.OUTPUT and file.stat().st_size:
            self._refuse_other(file, path, self._digest(self._key(path)))

    def _key(self, path: str) -> str:
        return "/".join(part for part in (self._prefix, confined(path, self.uri) if path else "") if part)

    def _key_of(self, path: str) -> str:
        """The key of a listed file: where the location is one object, its name is already part of the prefix."""
        return self._prefix if self._prefix.rpartition("/")[2] == path and not self._pattern else self._key(path)

    def _refuse_other(self, file: Path, path: str, found: str) -> None:
        """Raise StorageUnavailable unless the sha256 of what was read back is the local file's."""
        with file.open("rb") as source:
            if found == hashlib.file_digest(source, "sha256").hexdigest():
                return
        raise StorageUnavailable(
            f"{path} at the {self.role} {self.uri} is not what was uploaded: the upload is retried; if this happens again, "
            "use another destination"
        )

    def _download(self, file: StoredFile, into: Path) -> None:
        target = into / file.path
        if target.is_file() and target.stat().st_size == file.size_bytes:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        if file.size_bytes:
            self._save(self._key_of(file.path), partial)
        else:
            partial.write_bytes(b"")
        partial.replace(target)
