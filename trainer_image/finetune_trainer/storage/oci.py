"""A model, adapter or data set in an OCI registry: the files of one artifact, read only. Called by opening; oci_result writes."""

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

import httpx2

from finetune_trainer.errors import ReportedError, StorageFull, StorageUnavailable, UserError
from finetune_trainer.storage.addresses import Address
from finetune_trainer.storage.artifact import Artifact, Entry, bring, entries_of, part, read_artifact, rooted
from finetune_trainer.storage.base import ReadOnlyStore, StoreBase
from finetune_trainer.storage.modelpack import of_role
from finetune_trainer.storage.ranges import Ranges
from finetune_trainer.storage.registry import Registry
from finetune_trainer.storage.registry_answers import Changed, Refused
from finetune_trainer.storage.store import Role, StoredFile, not_found, unauthorized
from finetune_trainer.storage.transfer import alone
from finetune_trainer.storage.untrusted import or_untrusted

IDENTITY = "name a Secret of type kubernetes.io/dockerconfigjson, or one with OCI_USERNAME and OCI_PASSWORD"
FULL = ("quota", "no space")
FIXED = ("immutable", "TAG_INVALID")


def taken_apart(address: Address) -> tuple[str, str]:
    """Return repository and tag or digest of `oci://HOST/REPOSITORY:TAG` and `...@sha256:HEX`."""
    if "@" in address.path:
        repository, _, reference = address.path.partition("@")
    else:
        repository, _, reference = address.path.rpartition(":")
    return repository, reference


class RegistryPlace(StoreBase):
    """What reading and writing have in common: the registry, and how its refusals are worded."""

    def __init__(self, address: Address, role: Role, keys: dict[str, str]) -> None:
        self.uri = address.uri
        self.role = role
        self._host = address.authority
        self._repository, self._reference = taken_apart(address)
        try:
            self._registry = Registry(address.authority, self._repository, keys)
        except ValueError as error:
            raise unauthorized(
                role,
                f"the credentials for the {role} {self.uri} cannot be read: {error}. {IDENTITY[0].upper()}{IDENTITY[1:]}",
            ) from error

    @abstractmethod
    def _entry(self, path: str) -> Entry | None:
        """Return a file of the place."""

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading in ranges."""
        entry = self._entry(path)
        if entry is None:
            raise not_found(self.role, f"{self.uri}/{path}")
        return cast(
            "BinaryIO",
            BufferedReader(Ranges(entry.size_bytes, lambda start, end: self._part(entry, start, end)), 2**20),
        )

    def read_bytes(self, path: str, limit: int | None = None) -> bytes | None:
        """Return a file's content or its beginning."""
        entry = self._entry(path)
        return None if entry is None else self._part(entry, 0, entry.size_bytes if limit is None else limit)

    def _part(self, entry: Entry, start: int, end: int) -> bytes:
        with self._wording():
            return part(self._registry, entry, start, end)

    @contextlib.contextmanager
    def _wording(self) -> Iterator[None]:
        try:
            yield
        except ReportedError:
            raise
        except (Refused, Changed, httpx2.HTTPError, OSError) as error:
            raise self._worded(error) from error

    def _worded(self, error: Exception) -> Exception:
        where = f"{self.role} {self.uri}"
        if isinstance(error, Refused):
            return self._refusal(error)
        if isinstance(error, Changed):
            return StorageUnavailable(f"{error}, at the {where}: it is read or sent again")
        if getattr(error, "errno", None) == 28:
            return StorageFull(
                f"no space is left on the Pod's own disk for the {where}: free some space or raise the quota"
            )
        advice = or_untrusted(
            error, "check the host, set OCI_PLAIN_HTTP in its Secret if it speaks plain HTTP, or wait"
        )
        return StorageUnavailable(f"the {where} does not answer ({type(error).__name__}): {advice}")

    def _refusal(self, error: Refused) -> Exception:
        where, said = f"{self.role} {self.uri}", f"{error.code} {error.said}".lower()
        if error.status == 507 or any(word in said for word in FULL):
            return StorageFull(f"no space is left at the {where} ({error}): free some space or raise the quota")
        if any(word.lower() in said for word in FIXED):
            return UserError(
                "OutputNotWritable",
                f"the registry does not let tags of the {where} be overwritten ({error}): allow it for this repository",
            )
        if error.status in (401, 403):
            return unauthorized(
                self.role, f"the {where} refuses access ({error}): {IDENTITY}, and check its permissions"
            )
        if error.status == 404:
            return not_found(self.role, f"the repository {self._repository} of the {where}")
        return StorageUnavailable(f"the {where} does not answer ({error}): wait, or ask who runs the registry")


class OciStore(RegistryPlace, ReadOnlyStore):
    """The files of one artifact."""

    def __init__(self, address: Address, role: Role, keys: dict[str, str], *, revision: str = "") -> None:
        super().__init__(address, role, keys)
        self._wanted = revision or self._reference

    @property
    def revision(self) -> str:
        """Digest of the manifest; asked once, so that one run sees one artifact, wherever its tag moves."""
        return self._artifact.digest

    @cached_property
    def _artifact(self) -> Artifact:
        with self._wording():
            found = read_artifact(self._registry, self._wanted, self.uri)
        if found is None:
            raise not_found(self.role, f"the {self.role} {self.uri}")
        return found

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        layers = of_role(self._artifact.layers, dataset=self.role is Role.DATASET)
        if not layers:
            kind = self._artifact.manifest.get("artifactType") or "container image"
            raise UserError(
                "InvalidSpec",
                f"{self.uri} is not a model artifact but a {kind}: package it with a tool of the CNCF's ModelPack, such as modctl",
            )
        with self._wording():
            found = entries_of(self._registry, layers, self.uri)
        return {entry.path: entry for entry in (found if self.role is Role.DATASET else rooted(found))}

    def files(self, under: str = "") -> tuple[StoredFile, ...]:
        """List the files of the artifact below a folder."""
        return tuple(entry.stored for path, entry in self._entries.items() if not under or path.startswith(f"{under}/"))

    def fetch(self, into: Path, paths: Sequence[str] | None = None) -> Path:
        """Download the files that are not there yet; their layers must have the digests that the manifest states."""
        wanted = [entry for path, entry in self._entries.items() if paths is None or path in paths]
        with alone(into), self._wording():
            bring(self._registry, wanted, into)
        return into

    def exists(self, path: str) -> bool:
        """Tell whether there is a file or a folder."""
        return path in self._entries or bool(self.files(path))

    def _entry(self, path: str) -> Entry | None:
        return self._entries.get(path)

    def _read_only(self) -> UserError:
        return UserError(
            "InvalidSpec",
            f"the {self.role} {self.uri} cannot be written: oci:// holds results, and checkpoints go to s3://, gs://, az:// or pvc://",
        )
