"""Plain text files: each is one document of a corpus, a long one several."""

import io
from collections.abc import Iterator
from typing import BinaryIO

from finetune_trainer.data.reading.record import Place

LONGEST_CHARACTERS = 1 << 20
"""A file is cut at the next line end behind this: objective cpt cuts at the sequence length anyway, and memory stays small."""


def documents(file: BinaryIO) -> Iterator[Place]:
    """Yield the text of a file."""
    with io.TextIOWrapper(file, encoding="utf-8-sig") as text:
        number = 0
        while part := text.read(LONGEST_CHARACTERS):
            number += 1
            whole = part + (text.readline() if len(part) == LONGEST_CHARACTERS else "")
            if whole.strip():
                yield number, {"text": whole}
