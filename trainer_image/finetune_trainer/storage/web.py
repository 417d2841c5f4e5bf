"""One file at an https:// address. Read only, and never from inside the cluster: a job must not reach what its author cannot."""

import http.client
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from finetune_trainer.errors import StorageUnavailable, UserError
from finetune_trainer.storage.addresses import Address
from finetune_trainer.storage.base import ReadOnlyStore
from finetune_trainer.storage.public_https import Answer, NotPublic, opened
from finetune_trainer.storage.store import Role, StoredFile, not_found, unauthorized
from finetune_trainer.storage.transfer import alone
from finetune_trainer.storage.untrusted import or_untrusted

LARGEST_BYTES = 4 << 30
"""Larger data belongs into a bucket or volume: an address may answer anything at any length."""

PIECE_BYTES = 1 << 20


class WebStore(ReadOnlyStore):
    """A single file, downloaded once."""

    revision = ""

    def __init__(self, address: Address, role: Role, *, private: bool = False) -> None:
        if role is not Role.DATASET:
            raise UserError(
                "InvalidSpec", f"{address.uri!r}: https:// is for datasets only: use hf://, s3:// or pvc://"
            )
        if "*" in address.path:
            raise UserError("InvalidSpec", f"{address.uri!r}: https:// names one file, so it cannot hold *")
        self.uri = address.uri
        self.role: Role = role
        self._name = address.path.rsplit("/", 1)[-1]
        self._private = private
        """Addresses that are not public may be read: for tests on this machine."""

    def files(self, under: str = "") -> tuple[StoredFile, ...]:
        """Describe the file by what the server says of it."""
        if under:
            return ()
        with self._asked("HEAD") as answer:
            size = answer.response.getheader("Content-Length") or ""
            if not size.isdigit():
                raise UserError(
                    "DatasetInvalid", f"{self.uri}: the server does not say how large the file is: copy it to a bucket"
                )
            self._check_size(int(size))
            fingerprint = answer.response.getheader("ETag") or answer.response.getheader("Last-Modified") or ""
        return (StoredFile(path=self._name, size_bytes=int(size), fingerprint=fingerprint),)

    def fetch(self, into: Path, paths: Sequence[str] | None = None) -> Path:  # noqa: ARG002 - there is one file
        """Download the file, whole or not at all."""
        target = into / self._name
        with alone(into):
            if not target.is_file():
                into.mkdir(parents=True, exist_ok=True)
                partial = target.with_name(f".{self._name}.part")
                with partial.open("wb") as file:
                    self._download(file)
                partial.replace(target)
        return into

    def open(self, path: str) -> BinaryIO:
        """Download the file into a temporary one."""
        if path != self._name:
            raise not_found(self.role, f"{self.uri}/{path}")
        file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever opened it closes it
        self._download(cast("BinaryIO", file))
        file.seek(0)
        return cast("BinaryIO", file)

    def read_bytes(self, path: str, limit: int | None = None) -> bytes | None:
        """Return the file's content; None for any other."""
        if path != self._name:
            return None
        with self.open(path) as file:
            return file.read() if limit is None else file.read(limit)

    def exists(self, path: str) -> bool:
        """Tell whether this is the file."""
        return path == self._name

    def _read_only(self) -> UserError:
        return UserError("InvalidSpec", f"{self.uri}: https:// is read-only: use s3:// or pvc://")

    def _download(self, file: BinaryIO) -> None:
        with self._asked("GET") as answer:
            written = 0
            try:
                while piece := answer.response.read(PIECE_BYTES):
                    written += len(piece)
                    self._check_size(written)
                    file.write(piece)
            except (OSError, http.client.HTTPException) as error:
                raise StorageUnavailable(
                    f"the download of {self.uri} was interrupted ({type(error).__name__})"
                ) from error

    def _check_size(self, size: int) -> None:
        if size > LARGEST_BYTES:
            raise UserError(
                "DatasetInvalid", f"{self.uri} is larger than 4 GiB: copy it to a bucket or volume and name it there"
            )

    def _asked(self, method: str) -> Answer:
        """Send a request; errors are worded for the user."""
        try:
            answer = opened(method, self.uri, private=self._private)
        except NotPublic as refused:
            raise UserError("InvalidSpec", f"{self.uri}: {refused}: copy the file to a bucket or volume") from refused
        except (OSError, http.client.HTTPException) as error:
            raise StorageUnavailable(
                f"{self.uri} does not answer ({or_untrusted(error, f'{type(error).__name__}: {error}')})"
            ) from error
        status = answer.response.status
        if status == http.client.OK:
            return answer
        answer.close()
        if status in (http.client.NOT_FOUND, http.client.GONE):
            raise not_found(self.role, f"the dataset {self.uri}")
        if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            raise unauthorized(
                self.role, f"{self.uri} requires a login (HTTP {status}): copy the file to a bucket or volume"
            )
        raise StorageUnavailable(f"{self.uri} returned HTTP {status}")
