"""The refusal of one record, and JSON that stands in a text column."""

import json
from typing import Any

from finetune_trainer.data.reading.json_text import RepeatedKey, unrepeated


class RowInvalid(Exception):
    """A record that does not say what its format needs; the message says what is wrong."""


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


def parsed(text: str, what: str, *, else_: str = "") -> Any:
    """Return what a text says as JSON. Raises RowInvalid, which tells Python's own notation from other text.

    `else_` says what else it might have been, or what to write.
    """
    try:
        return json.loads(text, object_pairs_hook=unrepeated)
    except RepeatedKey as error:
        raise RowInvalid(f"{what} are JSON text that {error}") from error
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:2] in ("[{", "[(", "{'") and "'" in text:
            raise RowInvalid(
                f"{what} are text in Python's notation, not JSON: write that column with json.dumps, or save as .jsonl"
            ) from error
        raise RowInvalid(f"{what} are text that is not JSON{f': {else_}' if else_ else ''}") from error
