"""What Google's and Microsoft's stores have in common: objects with versions. Implemented by azure and google, used by cloud."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Trouble = Literal["refused", "missing", "no identity", "unreadable credentials", "unreachable"]

PART_BYTES = 32 * 2**20
"""Of an upload. 10,000 parts make 312 GiB, more than a file of weights has."""

BLOCK_BYTES = 8 * 2**20
"""Of a download."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """One object."""

    key: str
    size_bytes: int
    fingerprint: str


class Objects(Protocol):
    """A bucket or container. What is not there raises FileNotFoundError."""

    identity: str
    """How a job names who it is, in words."""

    def __init__(self, account: str, container: str, keys: dict[str, str]) -> None: ...

    def listed(self, prefix: str) -> Iterable[Object]:
        """Yield all objects below a prefix that ends at a slash, or is empty."""
        ...

    def head(self, key: str) -> Object:
        """Return what is known of an object."""
        ...

    def blocks(self, key: str) -> Iterator[bytes]:
        """Yield the content, block by block."""
        ...

    def part(self, key: str, start: int, end: int) -> bytes:
        """Return a part of the content, which is not empty."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Write a small object."""
        ...

    def create(self, key: str, content: bytes) -> bool:
        """Write a small object unless there is one; tell whether it was written."""
        ...

    def replace(self, key: str, old: bytes, new: bytes) -> bool:
        """Write a small object if it still is as `old`; tell whether it was written."""
        ...

    def put_file(self, key: str, file: Path) -> None:
        """Send a file, a large one in parts. The object appears when all of it is there."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object."""
        ...

    def trouble(self, error: Exception) -> Trouble | None:
        """Return what an error of the library means; None for one that is not the library's."""
        ...
