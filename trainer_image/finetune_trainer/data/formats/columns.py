"""Looking columns up: by the bare spelling of their names, and by what a column of turns holds."""

from collections.abc import Iterable, Mapping
from typing import Any

from finetune_trainer.data.formats.names import TURNS, bare
from finetune_trainer.data.formats.numbered import numbered_values
from finetune_trainer.data.formats.texts import is_alternating
from finetune_trainer.data.formats.transcripts import written_out
from finetune_trainer.data.reading.record import Record


def by_bare_name(record: Record) -> dict[str, str]:
    """Return the columns of a record by their bare names, the first of each."""
    names: dict[str, str] = {}
    for name in filter(None, record):
        names.setdefault(bare(str(name)), name)
    return names


def first(candidates: Iterable[str], names: Mapping[str, str]) -> str:
    """Return the column that has the first of some bare names; empty where none has."""
    return next((names[name] for name in candidates if name in names), "")


def turns_column(names: Mapping[str, str], record: Record, *, certain: bool) -> str:
    """Return the column of turns; unless it is certain that there is one, it must look like one."""
    known = [names[name] for name in TURNS if name in names]
    return next((name for name in known if certain or is_turns(record[name])), "")


def is_turns(value: Any) -> bool:
    """Tell whether a value looks like a list of turns: of objects, the same as JSON text, written out, or a struct of lists."""
    match value:
        case str():
            return value.lstrip()[:1] == "[" or value.lstrip()[:2] == '"[' or written_out(value) is not None
        case list():
            return all(isinstance(item, dict) for item in value) or is_alternating(value)
        case dict():
            if isinstance(value.get("messages"), list):
                return True
            columns = list(value.values())
            in_lists = bool(columns) and all(isinstance(column, list) for column in columns)
            return in_lists or bool(numbered_values(value))
        case None:
            return True
        case _:
            return False
