"""Fetching by several processes of one Pod at once: the first works, the others wait and find the files there."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

_HELD: set[Path] = set()
"""Locks of this process. flock does not know its own process: taking one twice would wait for ever."""


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process of this machine at a time work on a folder. The lock dies with its holder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f".{folder.name}.lock"
    assert path not in _HELD, f"this process already has sole use of {folder}"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _HELD.add(path)
        try:
            yield
        finally:
            _HELD.discard(path)
