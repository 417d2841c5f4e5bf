"""Text of strangers, as it may be shown: a terminal obeys escape sequences, and a log takes a newline for a new entry.

Data, models and logs of containers hold whatever their authors wrote. Part of contract.
"""

import dataclasses
import unicodedata
from typing import TypeVar

T = TypeVar("T")

SHOWN = "\n\t"
OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of what is not shown but obeyed: control, format (also the marks that turn the direction of text),
surrogates, line and paragraph separators."""

JOINERS = "\u200c\u200d"
"""Part of the spelling of emoji, Persian and Indic words."""


def harmless(text: str) -> str:
    """Return the text with each character that a terminal would obey spelled out, such as \\x1b; newlines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(repr(char)[1:-1] if _is_obeyed(char) else char for char in text)


def _is_obeyed(char: str) -> bool:
    return char not in SHOWN and char not in JOINERS and unicodedata.category(char) in OBEYED


def harmless_fields(value: T) -> T:
    """Return a dataclass whose texts are harmless, those of its dataclasses and tuples included; its dicts stay as they are."""
    if isinstance(value, str):
        return harmless(value)  # type: ignore[return-value]
    if isinstance(value, tuple):
        return tuple(harmless_fields(each) for each in value)  # type: ignore[return-value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        mended = {name: new for name, each in found if (new := harmless_fields(each)) != each}
        return dataclasses.replace(value, **mended) if mended else value
    return value
