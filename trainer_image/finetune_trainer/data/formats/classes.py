"""Numbers of classes become their names, as the job lists them: a model learns words. Called by rows."""

from collections.abc import Sequence

from finetune_trainer.data.formats.invalid import RowInvalid
from finetune_trainer.data.reading.record import Record


def class_named(record: Record, column: str, names: Sequence[str]) -> Record:
    """Return a record with the name of its class; text that is no number stays. Raises RowInvalid for a number without a name."""
    value = record.get(column)
    number = _number(value)
    if number is None:
        return record
    if not 0 <= number < len(names):
        raise RowInvalid(
            f"its {column} is {value}, but classNames has {len(names)} names, for 0 to {len(names) - 1}: list all of them"
        )
    return {**record, column: names[number]}


def _number(value: object) -> int | None:
    """CSV has numbers as text, and pandas writes whole ones with a point where some are missing."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
