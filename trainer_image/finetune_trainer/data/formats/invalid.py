"""The refusal of one record, and JSON that stands in a text column."""

from collections.abc import Callable, Sequence
from typing import Any

from finetune_trainer.data.reading.json_text import READER, RepeatedKey
from finetune_trainer.data.reading.record import Record


class RowInvalid(Exception):
    """A record that does not say what its format needs; the message says what is wrong."""

    @property
    def parts(self) -> "tuple[RowInvalid, ...]":
        """Each thing that is wrong with it."""
        return (self,)


class Several(RowInvalid):
    """A record with several things that are wrong."""

    def __init__(self, found: Sequence[RowInvalid]) -> None:
        super().__init__("; ".join(map(str, found)))
        self._parts = tuple(part for problem in found for part in problem.parts)

    @property
    def parts(self) -> tuple[RowInvalid, ...]:
        """Each thing that is wrong with it."""
        return self._parts


class Missing(RowInvalid):
    """Columns of a record that hold nothing."""

    def __init__(self, columns: Sequence[str], record: Record) -> None:
        named = f"{', '.join(columns[:-1])} and {columns[-1]} are" if len(columns) > 1 else f"{columns[0]} is"
        super().__init__(f"its {named} empty or missing; the row has {', '.join(map(str, record))}")
        self.columns = tuple(columns)
        self.record = record


def raise_all(found: Sequence[RowInvalid]) -> None:
    """Raise what was found, all of it at once; do nothing where it is nothing."""
    missing = [problem for problem in found if isinstance(problem, Missing)]
    if len(missing) > 1:
        together = Missing([column for problem in missing for column in problem.columns], missing[0].record)
        found = [together, *(problem for problem in found if problem not in missing)]
    if found:
        raise found[0] if len(found) == 1 else Several(found)


def gathered(*parts: Callable[[], Any]) -> list[Any]:
    """Return what each part of a record gives. Raises RowInvalid with what is wrong with all of them, not with the first."""
    given, found = [], []
    for part in parts:
        try:
            given.append(part())
        except RowInvalid as problem:
            found.append(problem)
    raise_all(found)
    return given


class WithoutRoles(RowInvalid):
    """A list of texts of which nothing says who speaks."""


class ClassUnnamed(RowInvalid):
    """A number of a class without a name: the others may have wrong names, so leaving the row out is no remedy."""


class NotText(RowInvalid):
    """A column that holds something else than text; another name may lead to the text that is meant."""

    def __init__(self, column: str, found: str, remedy: str) -> None:
        super().__init__(f"its {column} is {found}, not text{remedy}")
        self.column = column
        self.what = f"its {column} is {found}, not text"


class NoForm(Exception):
    """The columns of a record fit no form that is known."""


CLOSED = {"[": "]", "{": "}"}


def _cut_short(text: str) -> str:
    """Say which notation a text is of that begins as a list or object and does not end as one; empty for any other."""
    begun = text.strip()
    if CLOSED.get(begun[:1], begun[-1:]) == begun[-1:]:
        return ""
    if begun[:2] in ("[{", '{"'):
        return "text in Python's notation" if begun.lstrip("[{ ")[:1] == "'" else "JSON text"
    return "text in Python's notation" if begun[:2] in ("[(", "{'") else ""


def parsed(text: str, what: str, *, else_: str = "") -> Any:
    """Return what a text says as JSON. Raises RowInvalid, which tells Python's own notation from other text.

    `else_` says what else it might have been, or what to write.
    """
    try:
        return READER.decode(text)
    except RepeatedKey as error:
        raise RowInvalid(f"{what} are JSON text that {error}") from error
    except (ValueError, RecursionError) as error:
        if begun := _cut_short(text):
            raise RowInvalid(f"{what} are cut short: {begun} without its end, so export the column whole") from error
        if text.lstrip()[:2] in ("[{", "[(", "{'") and "'" in text:
            raise RowInvalid(
                f"{what} are text in Python's notation, not JSON: write that column with json.dumps, or save as .jsonl"
            ) from error
        raise RowInvalid(f"{what} are text that is not JSON{f': {else_}' if else_ else ''}") from error
