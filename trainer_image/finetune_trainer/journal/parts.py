"""A text that grows, in files of limited size: only the last one changes, so that storing it again costs little."""

from pathlib import Path

PART_BYTES = 2**20


class Parts:
    """Appends to `<name>-0000<suffix>`, `<name>-0001<suffix>` and so on."""

    def __init__(self, folder: Path, name: str, suffix: str, *, part_bytes: int = PART_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name, self._suffix, self._limit = folder, name, suffix, part_bytes
        self._number, self._size = 0, 0

    def append(self, data: bytes) -> None:
        """Add whole lines. A part may be longer than the limit by one call's lines."""
        if self._size > self._limit:
            self._number, self._size = self._number + 1, 0
        with (self._folder / f"{self._name}-{self._number:04}{self._suffix}").open(
            "ab" if self._size else "wb"
        ) as file:
            file.write(data)
        self._size += len(data)
