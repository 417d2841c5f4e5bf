"""Excel workbooks, by the reader python-calamine: the one sheet with rows, its cells as a CSV export would write them."""

import datetime as dt
from collections.abc import Iterator
from typing import Any, BinaryIO

from python_calamine import CalamineError, CalamineWorkbook, SheetVisibleEnum

from finetune_trainer.data.reading.record import Place, Unreadable, named
from finetune_trainer.data.reading.tables import header
from finetune_trainer.data.reading.titles import refuse_titles

SHOWN = 5
"""So many cells of the first line of a sheet a message shows."""


def spreadsheet(file: BinaryIO) -> Iterator[Place]:
    """Yield the rows of a workbook whose first line names the columns."""
    try:
        book = CalamineWorkbook.from_filelike(file)
        opened = {name: book.get_sheet_by_name(name) for name in book.sheet_names}
        hidden = {sheet.name for sheet in book.sheets_metadata if sheet.visible != SheetVisibleEnum.Visible}
        sheets = {name: sheet.to_python() for name, sheet in opened.items()}
    except (CalamineError, OSError) as error:
        raise Unreadable(f"it cannot be read as an Excel workbook ({error}): save it again, or as .csv") from error
    filled = {name: cells for name, cells in sheets.items() if any(any(map(_text, row)) for row in cells)}
    if len(filled) > 1:
        told = ", ".join(_told(name, cells, hidden=name in hidden) for name, cells in filled.items())
        raise Unreadable(f"it has several sheets with rows: {told}. Save the one to train on as its own file")
    for name, cells in filled.items():
        above = (opened[name].start or (0, 0))[0]
        refuse_titles((above + number, list(map(_text, row))) for number, row in enumerate(cells, start=1))
        names = header([_text(cell) for cell in cells[0]])
        for number, row in enumerate(cells[1:], start=1):
            texts = [_text(cell) for cell in row]
            if any(texts):
                yield number, named(names, texts)


def _told(name: str, cells: list[list[Any]], *, hidden: bool) -> str:
    """Say what a sheet holds, so that its columns can be named at once."""
    first = [text for text in map(_text, cells[0]) if text]
    more = ", ..." if len(first) > SHOWN else ""
    below = len(cells) - 1
    rows = "1 row" if below == 1 else f"{below} rows"
    return f"{name} ({'hidden in Excel, ' if hidden else ''}{rows} of {', '.join(first[:SHOWN])}{more})"


def _text(cell: Any) -> str:
    match cell:
        case bool():
            return str(cell).upper()
        case float() if cell.is_integer():
            return str(int(cell))
        case dt.date() | dt.time():
            return cell.isoformat()
        case _:
            return str(cell)
