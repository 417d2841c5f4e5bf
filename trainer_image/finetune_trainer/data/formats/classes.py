"""Numbers of classes become their names, as the job lists them: a model learns words. Called by rows."""

from collections.abc import Sequence

from finetune_trainer.data.formats.invalid import ClassUnnamed, RowInvalid
from finetune_trainer.data.reading.record import Record


def class_named(record: Record, column: str, names: Sequence[str]) -> Record:
    """Return a record with the name of its class; text that is no number stays. Raises RowInvalid for a number without a name."""
    value = record.get(column)
    number = _number(value)
    if number is None:
        return record
    if not 0 <= number < len(names):
        raise _unnamed(number, column, names)
    return {**record, column: names[number]}


def _unnamed(number: int, column: str, names: Sequence[str]) -> RowInvalid:
    said = f"its {column} is {number}, but classNames has {len(names)} names, for 0 to {len(names) - 1}"
    if number < 0:
        return RowInvalid(f"{said}: a negative number most often stands for no class")
    if number > len(names):
        return ClassUnnamed(f"{said}: list all of them")
    return ClassUnnamed(
        f"{said}: if the numbers begin at 1, each has the name of the next one, so put a name for 0 before them, such as unused; "
        "else add the last name"
    )


def _number(value: object) -> int | None:
    """CSV has numbers as text, and pandas writes whole ones with a point where some are missing."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
