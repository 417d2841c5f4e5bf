"""Which columns of the data are read and as what, and which are not: for the preview. Called by prepare."""

from collections.abc import Iterable, Iterator
from itertools import chain

from finetune_trainer.data.corpus import Corpus
from finetune_trainer.data.formats.chosen import PLACEHOLDER
from finetune_trainer.data.formats.detect import Format

SHOWN = 12
"""So many columns that are not read a line names."""


def columns_of(corpora: Iterable[Corpus]) -> Iterator[tuple[str, str]]:
    """Yield what to say of the columns of each data set: of those that are read, and of the others, if there are any."""
    several = list(corpora)
    for corpus in several:
        place = f" ({corpus.uri.rsplit('/', 1)[-1]})" if len(several) > 1 else ""
        read = dict(
            role for columns, form in corpus.formats.items() for role in _roles(form) if _lies_in(role[0], columns)
        )
        columns = dict.fromkeys(map(str, chain(*corpus.formats)))
        left = [name for name in columns if name and name not in read and not _leads(name, read)]
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        if read:
            yield "columns read", ", ".join(f"{name} as {role}" for name, role in read.items()) + place
        if left:
            yield "columns not read", ", ".join(left[:SHOWN]) + more + place


def _lies_in(name: str, columns: Iterable[str]) -> bool:
    """Tell whether a name is that of a column, or leads into one."""
    return any(name == column or name.startswith(f"{column}.") for column in columns)


def _leads(column: str, read: Iterable[str]) -> bool:
    """Tell whether something inside a column is read."""
    return any(name.startswith(f"{column}.") for name in read)


def _roles(form: Format) -> Iterator[tuple[str, str]]:
    """Yield each column that is read with what it is read as."""
    asked = PLACEHOLDER.findall(form.template) or [form.prompt]
    named = (
        (form.system, "system prompt"),
        (form.tools, "tools"),
        (form.history, "earlier turns"),
        *((name, "question") for name in (*asked, *form.joined)),
        (form.completion, "answer"),
        (form.messages, "conversation"),
        (form.text, "text"),
        *((name, f"turn of the {role}") for name, role in form.numbered),
    )
    return ((name, role) for name, role in named if name)
