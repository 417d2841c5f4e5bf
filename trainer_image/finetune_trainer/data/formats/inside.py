"""What lies inside the columns of a record, by names with dots: `translation.en`, `answers.text.0`."""

from collections.abc import Iterable, Iterator
from typing import Any

from finetune_trainer.data.formats.invalid import RowInvalid, parsed
from finetune_trainer.data.reading.record import Record


def with_inner(record: Record, named: Iterable[str]) -> Record:
    """Return a record with a column for each name that leads into another column, such as `translation.en`."""
    inner = {name: value for name in named if name not in record and (value := _inside(record, name)) is not None}
    return {**record, **inner} if inner else record


def inner_names(record: Record) -> Iterator[str]:
    """Yield how values inside the columns of a record are named."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from (f"{name}.{key}" for key in value)


def _inside(record: Record, name: str) -> Any:
    """A column may have dots in its own name, as Argilla writes `answer.responses`: the longest such name counts."""
    keys = name.split(".")
    begins = [end for end in range(len(keys), 0, -1) if ".".join(keys[:end]) in record]
    if not begins:
        return None
    value: Any = record[".".join(keys[: begins[0]])]
    for key in keys[begins[0] :]:
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            value = _from_json(value)
        if isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict):
            value = value.get(key)
        else:
            return None
    return value


def _from_json(text: str) -> Any:
    try:
        return parsed(text, "its values")
    except RowInvalid:
        return None
