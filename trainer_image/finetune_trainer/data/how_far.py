"""How far the preparation of large data has come: said every some thousand rows, to whoever listens."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Say = Callable[[str], None]
Item = TypeVar("Item")

SAID_EVERY_ROWS = 10_000


def silent(_: str) -> None:
    """Nobody listens."""


def counted(items: Iterable[Item], reached: Callable[[int], None]) -> Iterator[Item]:
    """Yield the items as they are, and tell every so often how many there were."""
    for number, item in enumerate(items, start=1):
        yield item
        if number % SAID_EVERY_ROWS == 0:
            reached(number)
