"""What somebody most likely meant by a name that does not exist: the one that is spelt alike, or another word for the same."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

NEAR = 0.75
"""So alike a name must be to be asked for: Qestion and Question are, text and context are not."""

NEAR_WITH_WORD = 0.6
"""The same where the first word is that of the name: agent_response and agent_reply."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the name that was most likely meant; empty where none is near."""
    by_plain = {_plain(one) or one: one for one in known}
    wanted = _plain(name) or name
    if close := get_close_matches(wanted, by_plain, n=1, cutoff=NEAR):
        return by_plain[close[0]]
    begun = [plain for plain, one in by_plain.items() if _first_word(one) == _first_word(name) != ""]
    alike = [(SequenceMatcher(None, plain, wanted).ratio(), plain) for plain in begun]
    ratio, plain = max(alike, default=(0, ""))
    return by_plain[plain] if ratio >= NEAR_WITH_WORD else ""


def did_you_mean(names: Iterable[str]) -> str:
    """Ask for the names that were most likely meant; empty without any."""
    found = " and ".join(filter(None, names))
    return f". Did you mean {found}?" if found else ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _first_word(name: str) -> str:
    """The word before the first mark or capital; empty for a name of one word."""
    words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)
    return words[0].lower() if len(words) > 1 else ""
