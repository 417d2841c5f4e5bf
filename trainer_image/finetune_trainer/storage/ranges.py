"""A remote object as a file that is read in ranges. Called by cloud."""

import io
from collections.abc import Callable
from typing import Any


class Ranges(io.RawIOBase):
    """Reads what it is asked for and nothing else."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size, self._read, self._at = size, read, 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read anywhere."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the object goes."""
        content = self._read(self._at, min(self._size, self._at + len(buffer)))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
