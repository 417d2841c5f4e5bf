"""What a place can do, whatever it is made of; and how its refusals are worded, by what the place is for."""

import enum
import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from finetune_trainer.errors import UserError


class Role(enum.StrEnum):
    """What a location is for: decides the reason and the remedy of a refusal."""

    MODEL = "model"
    ADAPTER = "initial adapter"
    DATASET = "dataset"
    OUTPUT = "output"
    CHECKPOINT = "checkpoint destination"


NOT_FOUND = {
    Role.MODEL: ("ModelNotFound", "correct spec.model.source or spec.model.revision"),
    Role.ADAPTER: ("ModelNotFound", "correct spec.lora.initialAdapter"),
    Role.DATASET: ("DatasetNotFound", "correct source or revision in spec.datasets"),
    Role.OUTPUT: ("OutputNotWritable", "create it or correct spec.output.destination"),
    Role.CHECKPOINT: ("OutputNotWritable", "create it or correct spec.checkpoint.destination"),
}
UNAUTHORIZED = {
    Role.MODEL: "ModelUnauthorized",
    Role.ADAPTER: "ModelUnauthorized",
    Role.DATASET: "DatasetUnauthorized",
    Role.OUTPUT: "OutputNotWritable",
    Role.CHECKPOINT: "OutputNotWritable",
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class StoredFile:
    """One file of a store."""

    path: str
    """Relative to the store, with slashes."""
    size_bytes: int
    fingerprint: str = ""
    """Changes when the content does, as far as the place can tell without reading it: ETag, blob id, time of change."""


class Store(Protocol):
    """A folder (or single file, or glob) outside the Pod. Paths are relative and confined to it.

    All methods raise UserError, StorageUnavailable or StorageFull, worded for the user, and nothing else on purpose.
    """

    uri: str
    role: Role

    @property
    def revision(self) -> str:
        """Commit of a hub repository, digest of an artifact; empty elsewhere."""
        ...

    def address_of(self, path: str) -> str:
        """Return the URI under which others find a folder, once it is uploaded."""
        ...

    def local_folder(self) -> Path | None:
        """Return the folder where the files can be used in place (file, pvc); None where they must be fetched."""
        ...

    def files(self, under: str = "") -> tuple[StoredFile, ...]:
        """List all files below a folder, sorted by path. A single file or a glob lists its matches."""
        ...

    def fetch(self, into: Path, paths: Sequence[str] | None = None) -> Path:
        """Bring the files (all, or `paths`) here and return their folder: `into`, or the place itself if local.

        Processes of one Pod may call this at the same time: one fetches, the others wait.
        """
        ...

    def open(self, path: str) -> BinaryIO:
        """Open a listed file for reading; large ones are read in ranges, not fetched."""
        ...

    def read_bytes(self, path: str, limit: int | None = None) -> bytes | None:
        """Return a file's content or its first `limit` bytes; None when it does not exist."""
        ...

    def read_text(self, path: str) -> str | None:
        """Return a small file's text; None when it does not exist."""
        ...

    def write_text(self, path: str, text: str) -> None:
        """Write a small file, whole or not at all."""
        ...

    def create_text(self, path: str, text: str) -> bool:
        """Write a small file only if it does not exist; False when somebody was first."""
        ...

    def replace_text(self, path: str, old: str, new: str) -> bool:
        """Write a small file only if its text still is `old`; False when somebody was first."""
        ...

    def upload(self, folder: Path, path: str = "") -> None:
        """Copy all files of a local folder to `path`, keeping what else is there."""
        ...

    def exists(self, path: str) -> bool:
        """Tell whether there is a file, or a folder with a file in it."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file or a folder with all that is in it; nothing happens when there is none."""
        ...


def not_found(role: Role, what: str) -> UserError:
    """Return the error for a place that does not exist."""
    reason, remedy = NOT_FOUND[role]
    return UserError(reason, f"{what} does not exist: {remedy}")


def unauthorized(role: Role, message: str) -> UserError:
    """Return the error for a place that refuses our identity; `message` says what to do."""
    return UserError(UNAUTHORIZED[role], message)


def matching(files: Iterable[StoredFile], pattern: str) -> tuple[StoredFile, ...]:
    """Return the files whose path matches a glob; `*` does not cross a slash, `**` does."""
    return tuple(file for file in files if _matches(file.path.split("/"), pattern.split("/")))


def _matches(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_matches(parts[skip:], patterns[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])


def glob_base(path: str) -> tuple[str, str]:
    """Split `a/b/*.jsonl` into the folder before the first wildcard and the pattern, empty without one."""
    parts = path.split("/")
    first = next((index for index, part in enumerate(parts) if "*" in part), len(parts))
    return "/".join(parts[:first]), "/".join(parts[first:])
