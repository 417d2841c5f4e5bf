"""A sha256 for each file of a checkpoint: taken before it leaves the machine, compared when a run resumes. Called by checkpoints."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = 4
"""hashlib lets go of the interpreter's lock, and one core hashes slower than a disk reads."""


def digests(folder: Path, files: Iterable[str] | None = None) -> dict[str, str]:
    """Return the sha256 of each file by its path in the folder; of `files` only, where given. Missing files have none."""
    listed = (path for path in folder.rglob("*") if path.is_file())
    wanted = [folder / name for name in files] if files is not None else sorted(listed)
    paths = [path for path in wanted if path.is_file()]
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip((path.relative_to(folder).as_posix() for path in paths), pool.map(_sha256, paths), strict=True))


def damaged(folder: Path, expected: dict[str, str]) -> list[str]:
    """Return the files that are gone or hold other bytes than were written."""
    found = digests(folder, expected)
    return sorted(name for name, digest in expected.items() if found.get(name) != digest)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
