"""Texts that were read with the wrong encoding and saved again: `rÃ©el` for `réel`, or a mark in place of what was lost.

Called by notices.
"""

import re

NOT_ASCII = re.compile(r"[^\x00-\x7f]+")

UNLIKELY = re.compile("[\u01c0-\u02ff\u0305\u030d-\u0326\u0328-\u036f\u0460-\u05cf\u0700-\u08ff]")
"""What real texts seldom hold, but what a capital before a quotation mark or three dots would become: `OPCIÓ…`, `CAFÉ»`."""

LOST = "\N{REPLACEMENT CHARACTER}"
"""What programs write in place of bytes that they could not read."""


def _bytes_by_character() -> dict[str, int]:
    """Bytes from 0x80 as Windows-1252 shows them; those that it lacks, and all of Latin-1, stand for themselves."""
    shown = {bytes([byte]).decode("cp1252", errors="ignore"): byte for byte in range(0x80, 0x100)}
    return {**{chr(byte): byte for byte in range(0x80, 0x100)}, **shown}


BYTES = _bytes_by_character()


def misread(text: str) -> str:
    """Return the first word of a line that is UTF-8 read as Windows-1252 or Latin-1; empty where there is none.

    All that is not ASCII in the line must be so: in a healthy line a letter with an accent stands beside others.
    """
    return "" if text.isascii() else next(filter(None, map(_misread_word, text.split("\n"))), "")


def meant(text: str) -> str:
    """Return a misread text as it was meant."""
    return NOT_ASCII.sub(lambda run: _decoded(run[0]) or run[0], text)


def _misread_word(line: str) -> str:
    runs = NOT_ASCII.finditer(line)
    first = next(runs, None)
    if first is None or not _decoded(first[0]) or not all(_decoded(run[0]) for run in runs):
        return ""
    before, after = line[: first.start()].rpartition(" ")[2], line[first.end() :].partition(" ")[0]
    return f"{before}{first[0]}{after}"


def _decoded(run: str) -> str:
    """Return what a run of characters says if its bytes are read as UTF-8; empty where they are none."""
    try:
        said = bytes(BYTES[character] for character in run).decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        return ""
    return "" if UNLIKELY.search(said) else said
