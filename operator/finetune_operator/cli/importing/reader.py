"""Settings of another tool that remember which of them were read: what is left has no equivalent, and is told."""

from collections.abc import Iterator, Mapping
from typing import Any

FALSE = ("false", "no", "off", "0", "none", "null", "")


class Reader:
    """Reads each setting once."""

    def __init__(
        self, settings: Mapping[str, Any], path: str = "", *, defaults: Mapping[str, Any] | None = None
    ) -> None:
        """`defaults` are what the other tool does where nothing is said."""
        said = {str(key): value for key, value in settings.items() if value not in (None, "")}
        self._left = {**(defaults or {}), **said}
        self._path = path

    def take(self, *names: str) -> Any:
        """Return the first of these settings that is there and not empty, and count all of them as read; None without one."""
        found = [self._left.pop(name, None) for name in names]
        return next((value for value in found if value not in (None, "", [], {})), None)

    def has(self, name: str) -> bool:
        """Tell whether a setting holds a value."""
        return self._left.get(name) not in (None, "", [], {})

    def text(self, *names: str) -> str:
        """Return a setting as text; empty without one."""
        value = self.take(*names)
        return "" if value is None else str(value)

    def number(self, *names: str) -> float | None:
        """Return a setting as a number, also one that is written as text; None without one, or for `auto`."""
        value = self.take(*names)
        try:
            return None if value is None or isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            return None

    def flag(self, *names: str) -> bool:
        """Tell whether a setting is on."""
        value = self.take(*names)
        return value is not None and str(value).strip().lower() not in FALSE

    def inside(self, name: str) -> "Reader":
        """Return the settings below a key, as settings of their own."""
        value = self.take(name)
        return Reader(value if isinstance(value, Mapping) else {}, f"{self._path}{name}.")

    def left(self) -> Iterator[tuple[str, Any]]:
        """Yield what was not read and holds a value, by its path."""
        for name, value in self._left.items():
            if value not in (None, "", [], {}):
                yield f"{self._path}{name}", value
