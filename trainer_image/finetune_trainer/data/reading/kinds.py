"""What the name of a file says: the kind of rows in it, and how it is compressed."""

from dataclasses import dataclass

ROWS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".xlsx", ".parquet", ".arrow")
DOCUMENTS = (".txt", ".md")
"""Plain text: of use to objective cpt only, for it has no answers."""

COMPRESSED = (".gz", ".bz2", ".zst")
WHOLE = (".xlsx", ".parquet", ".arrow")
"""Kinds that are read by position, so they are not read through a compressed stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a file is read."""

    suffix: str
    compression: str = ""


def kind_of(name: str, *, documents: bool = True) -> Kind | None:
    """Return how a file of this name is read; None for what holds no rows."""
    lower = name.lower()
    compression = next((end for end in COMPRESSED if lower.endswith(end)), "")
    bare = lower.removesuffix(compression) if compression else lower
    known = ROWS + DOCUMENTS if documents else ROWS
    suffix = next((end for end in known if bare.endswith(end)), "")
    if not suffix or (compression and suffix in WHOLE):
        return None
    return Kind(suffix=suffix, compression=compression)


def readable(*, documents: bool) -> str:
    """Return the endings that are read, for a sentence."""
    named = ROWS + DOCUMENTS if documents else ROWS
    return f"{', '.join(named)}; text files may end in {', '.join(COMPRESSED[:-1])} or {COMPRESSED[-1]} too"
