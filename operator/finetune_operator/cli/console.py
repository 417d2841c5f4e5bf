"""How wide the tables of the catalogues are. For `finetune models` and `finetune gpus`."""

from rich.console import Console

NARROWEST = 140
"""Columns of a table with whole figures: a narrower terminal wraps the lines, which is better than cutting them."""

UNLIMITED = 1000
"""Columns of a pipe: grep finds whole lines."""


def unbroken() -> Console:
    """Return a console that breaks no line of a pipe, and cuts no figure in a narrow terminal."""
    terminal = Console()
    return Console(width=max(terminal.width, NARROWEST) if terminal.is_terminal else UNLIMITED)


def in_words() -> Console:
    """Return a console for sentences: words are wrapped at the edge of a terminal, and no line of a pipe is."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=UNLIMITED)
