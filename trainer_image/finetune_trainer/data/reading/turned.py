"""Tables as JSON documents, in the ways in which pandas writes them, become rows. Called by json_text."""

from typing import Any

from finetune_trainer.data.reading.record import Record

SPLITS = ("train", "training", "test", "validation", "valid", "val", "dev", "eval")
"""Names that are no columns: what they hold lies beside each other, not in the same row."""


def turned(value: Record) -> list[Record]:
    """Columns of values, as pandas writes them: lists of one length, objects from row label to value, or rows beside their names."""
    names, split = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(split, list) and all(isinstance(name, str) for name in names):
        return _split(names, split)
    if all(str(name).lower() in SPLITS for name in value):
        return []
    columns = list(value.values())
    if all(key.isdigit() and isinstance(row, dict) and not all(map(str.isdigit, row)) for key, row in value.items()):
        return columns  # rows by their numbers
    if _are_rows_by_name(value):
        return columns
    if all(isinstance(column, dict) for column in columns) and all(
        column.keys() == columns[0].keys() for column in columns
    ):
        columns = [list(column.values()) for column in columns]
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return []
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def _are_rows_by_name(value: Record) -> bool:
    """Tell rows by their names from columns, which pandas writes the same way: more rows than columns, and no numbers inside."""
    columns = list(value.values())
    if not columns or not all(isinstance(row, dict) and row.keys() == columns[0].keys() for row in columns):
        return False
    return len(columns) > len(columns[0]) > 1 and not any(str(name).isdigit() for name in columns[0])


def _split(names: list[str], rows: list[Any]) -> list[Record]:
    """pandas' orient="split"; empty where a row is no list of as many values as there are names."""
    if len(set(names)) < len(names) or not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return []
    return [dict(zip(names, row, strict=True)) for row in rows]
