"""How much the names on the way to a value say that it is a question, or its answer. Called by suggest."""

import re
from collections.abc import Callable, Sequence

from finetune_trainer.data.formats.leaves import Leaf
from finetune_trainer.data.formats.names import ANNOTATED, ANSWERING, ASKED, COMPLETIONS, PROMPTS, bare, words_of

Says = Callable[[Leaf], int]

SURE, LIKELY, PERHAPS = 30, 20, 10
"""How much a name says: it is one that the tables know, it is such a word, or it holds one or several."""


def best(found: Sequence[Leaf], says: Says) -> list[Leaf]:
    """Those of which the names say it, best first."""
    return sorted((leaf for leaf in found if says(leaf)), key=lambda leaf: (-says(leaf), _sure_at(leaf)))


def answers(leaf: Leaf) -> int:
    """How much the names on the way to a value say that it is the answer."""
    return _said(leaf)[0]


def asks(leaf: Leaf) -> int:
    """How much they say that it is the question."""
    return _said(leaf)[1]


def _said(leaf: Leaf) -> tuple[int, int]:
    """The outermost name that the tables know decides, else the outermost that says anything."""
    said = [(_answering(name), _asking(name)) for name in leaf.names]
    sure = (pair for pair in said if max(pair) == SURE)
    answered, asked = next(sure, None) or next((pair for pair in said if any(pair)), (0, 0))
    return (answered, 0) if answered >= asked else (0, asked)


def _sure_at(leaf: Leaf) -> int:
    """How far inside the name lies that the tables know."""
    sure = (number for number, name in enumerate(leaf.names) if max(_answering(name), _asking(name)) == SURE)
    return next(sure, len(leaf.names))


def _answering(name: str) -> int:
    if _is_known(name, COMPLETIONS):
        return SURE
    return _how_much(name, ANSWERING | ANNOTATED)


def _asking(name: str) -> int:
    if _is_known(name, PROMPTS):
        return SURE
    return _how_much(name, ASKED | frozenset(PROMPTS))


def classifies(name: str) -> int:
    """How much a name says that its column holds a class, also as a number or truth value."""
    return _answering(name) or (PERHAPS if words_of(name) & {"is", "polarity"} else 0)


def is_numbered(leaf: Leaf) -> bool:
    """Tell a question that is one of several in columns of their own, such as user_2."""
    name = leaf.names[-1]
    return name[-1].isdigit() and _asking(name) == SURE


def _is_known(name: str, table: Sequence[str]) -> bool:
    """Tell whether a table has a name, also in the plural or with a number behind it."""
    plain = bare(name.rstrip("0123456789_ "))
    return any(one in table for one in (bare(name), plain, plain.removesuffix("s"), re.sub("ies$", "y", plain)))


def _how_much(name: str, words: frozenset[str]) -> int:
    if bare(name) in words or bare(name).removesuffix("s") in words:
        return LIKELY
    held = len([word for word in words_of(name) if word in words or word.removesuffix("s") in words])
    return PERHAPS + held - 1 if held else 0
