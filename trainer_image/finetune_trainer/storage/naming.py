"""Lists of names in a sentence. Called wherever a message names files or tensors."""

from collections.abc import Sequence

NAMED = 3
"""A list longer than this hides the rest of the sentence."""


def some(names: Sequence[str]) -> str:
    """Return at most three names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the right form."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
