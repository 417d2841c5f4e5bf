"""A folder that is mounted in this Pod (pvc://) or lies on this machine (file://). Used in place, never copied."""

import contextlib
import errno
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from finetune_trainer.errors import StorageFull, StorageUnavailable, UserError
from finetune_trainer.storage.addresses import Address, confined, mounted_root
from finetune_trainer.storage.base import StoreBase
from finetune_trainer.storage.store import NOT_FOUND, Role, StoredFile, glob_base, matching, not_found, unauthorized

FULL = (errno.ENOSPC, errno.EDQUOT)
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)
ABANDONED_SECONDS = 3600
"""A part that grew so long ago belongs to nobody: a copy that runs writes all the time."""

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


class FolderStore(StoreBase):
    """Files below one folder. Symbolic links that lead out of the mount are refused."""

    revision = ""

    def __init__(self, address: Address, role: Role) -> None:
        self.uri = address.uri
        self.role = role
        self._mount = mounted_root(address).resolve()
        base, self._pattern = glob_base(address.path)
        if not self._mount.is_dir():
            raise StorageUnavailable(f"the volume of {address.uri} is not mounted at {self._mount}")
        self._root = self._inside(self._mount / base)

    def local_folder(self) -> Path | None:
        """Return the folder itself."""
        return self._root.parent if self._root.is_file() else self._root

    def files(self, under: str = "") -> tuple[StoredFile, ...]:
        """List all files below a folder."""
        with self._wording():
            if self._root.is_file():
                return (_described(self._root, self._root.parent),)
            found = sorted(listed(self._walk(self._path(under)), self._root))
            return matching(found, self._pattern) if self._pattern else tuple(found)

    def fetch(self, into: Path, paths: Sequence[str] | None = None) -> Path:  # noqa: ARG002 - used in place
        """Return the folder itself after checking that it is there."""
        folder = self.local_folder()
        if folder is None or not folder.is_dir():
            raise not_found(self.role, self.uri)
        return folder

    def open(self, path: str) -> BinaryIO:
        """Open a listed file for reading."""
        with self._wording():
            return (self._root if self._root.is_file() else self._path(path)).open("rb")

    def read_bytes(self, path: str, limit: int | None = None) -> bytes | None:
        """Return a file's content or its beginning."""
        with self._wording():
            try:
                with self._path(path).open("rb") as file:
                    return file.read() if limit is None else file.read(limit)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write_text(self, path: str, text: str) -> None:
        """Write through a temporary file, so that a reader sees the old or the new text."""
        with self._wording():
            target = self._prepared(path)
            self._temporary(target, text).replace(target)

    def create_text(self, path: str, text: str) -> bool:
        """Write only if there is nothing: a hard link to a finished file is atomic, on NFS too."""
        with self._wording():
            target = self._prepared(path)
            temporary = self._temporary(target, text)
            try:
                _place(temporary, target, text)
            except FileExistsError:
                return False
            finally:
                temporary.unlink()
            return True

    def replace_text(self, path: str, old: str, new: str) -> bool:
        """Write only if the text still is `old`: of two that try, the one that moves the old file away wins."""
        with self._wording():
            target = self._prepared(path)
            aside = _own_name(target, "old")
            try:
                target.rename(aside)
            except FileNotFoundError:
                return False
            if aside.read_text() != old:
                aside.rename(target)
                return False
            created = self.create_text(path, new)
            aside.unlink()
            return created

    def upload(self, folder: Path, path: str = "") -> None:
        """Copy all files of a local folder, each whole or not at all."""
        with self._wording():
            for source in sorted(file for file in folder.rglob("*") if file.is_file()):
                name = source.relative_to(folder).as_posix()
                target = self._prepared(f"{path}/{name}" if path else name)
                _drop_abandoned(target)
                temporary = _own_name(target, "part")
                try:
                    shutil.copyfile(source, temporary)
                    temporary.replace(target)
                finally:
                    temporary.unlink(missing_ok=True)

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or a folder with a file in it."""
        return self._path(path).is_file() or any(True for _ in self._walk(self._path(path)))

    def delete(self, path: str) -> None:
        """Remove a file or a folder."""
        with self._wording():
            target = self._path(path)
            if target.is_dir():
                shutil.rmtree(target, onerror=_unless_gone)
            else:
                target.unlink(missing_ok=True)

    def _path(self, path: str) -> Path:
        return self._inside(self._root / confined(path, self.uri)) if path else self._root

    def _inside(self, path: Path) -> Path:
        if not path.resolve().is_relative_to(self._mount):
            raise UserError(
                "InvalidSpec", f"{self.uri}: a symbolic link leads out of the volume; copy the files into it"
            )
        return path

    def _prepared(self, path: str) -> Path:
        target = self._path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _temporary(self, target: Path, text: str) -> Path:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return Path(name)

    def _walk(self, folder: Path) -> Iterator[Path]:
        for parent, folders, names in os.walk(folder):
            folders.sort()
            yield from (self._inside(Path(parent) / name) for name in names)

    @contextlib.contextmanager
    def _wording(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._worded(error) from error

    def _worded(self, error: OSError) -> Exception:
        where = f"{self.role} {self.uri}"
        if error.errno in FULL:
            return StorageFull(f"no space is left at the {where}: free some space or use another volume")
        if error.errno in READ_ONLY:
            remedy = "its files must belong to the Pod's user or group, and the volume must not be mounted read-only"
            return unauthorized(self.role, f"the {where} refuses access ({os.strerror(error.errno)}): {remedy}")
        if isinstance(error, NotADirectoryError | IsADirectoryError | FileExistsError):
            return UserError(NOT_FOUND[self.role][0], f"the {where} is not a folder: {NOT_FOUND[self.role][1]}")
        if isinstance(error, FileNotFoundError) and error.filename and Path(error.filename).is_symlink():
            return UserError(NOT_FOUND[self.role][0], self._broken_link(Path(error.filename)))
        return StorageUnavailable(f"the {where} cannot be used: {os.strerror(error.errno or 0)}")

    def _broken_link(self, link: Path) -> str:
        return (
            f"{link.name} of {self.uri} is a link to {link.readlink()}, which does not exist there: copy the files themselves in place "
            "of the links, with cp -rL or rsync -L"
        )


def listed(paths: Iterable[Path], root: Path) -> Iterator[StoredFile]:
    """Describe what is still there: rank 0 may be removing what an earlier attempt left while other ranks list."""
    for path in paths:
        try:
            yield _described(path, root)
        except FileNotFoundError:
            if path.is_symlink():  # leads nowhere: the user's to mend
                raise


def _own_name(target: Path, ending: str) -> Path:
    """Return a hidden name beside a file that nobody else uses: process ids repeat, every Pod counts its own."""
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}.{ending}")


def _drop_abandoned(target: Path) -> None:
    """Remove what processes that were killed had copied of a file: it may be as large as a model."""
    for part in target.parent.glob(f".{target.name}.*.part"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > ABANDONED_SECONDS:
                part.unlink()


def _unless_gone(_function: object, _path: str, raised: tuple[type[BaseException], BaseException, object]) -> None:
    """Somebody else removes the same files: what is gone is gone."""
    if not isinstance(raised[1], FileNotFoundError):
        raise raised[1]


def _described(path: Path, root: Path) -> StoredFile:
    stat = path.stat()
    return StoredFile(
        path=path.relative_to(root).as_posix(), size_bytes=stat.st_size, fingerprint=str(stat.st_mtime_ns)
    )


def _place(temporary: Path, target: Path, text: str) -> None:
    """Put a finished file at a name that is free. Raises FileExistsError when it is not."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with target.open("x") as file:  # no hard links on this file system (CIFS, some FUSE): exclusive all the same
            file.write(text)
