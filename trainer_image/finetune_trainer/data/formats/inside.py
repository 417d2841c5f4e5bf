"""What lies inside the columns of a record, by names with dots: `translation.en`, `answers.text.0`."""

from collections.abc import Iterable, Iterator
from typing import Any

from finetune_trainer.data.formats.invalid import RowInvalid, parsed
from finetune_trainer.data.formats.names import ANSWERING, COMPLETIONS, CONTENT_KEYS, PROMPTS, bare, words_of
from finetune_trainer.data.reading.record import Record

LANGUAGE = 5
"""So many characters the code of a language has: en, zh, pt_BR."""


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
    value: Any = record
    for key in name.split("."):
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


def texts_inside(record: Record) -> Record:
    """Return a record with what lies inside its columns in their place; empty where nothing does that is of use.

    Translations hold a text for each language, SQuAD's answers a list of texts.
    """
    asks = any(bare(name) in PROMPTS for name in record)
    found: Record = {}
    for name, value in record.items():
        is_first = (
            asks and isinstance(value, list) and value and isinstance(value[0], str) and words_of(name) & ANSWERING
        )
        found |= {f"{name}.0": value[0]} if is_first else _inner_texts(name, value) or {name: value}
    return found if found.keys() != record.keys() else {}


def _inner_texts(name: str, value: Any) -> Record:
    if not isinstance(value, dict) or any(isinstance(value.get(key), list) for key in ("messages", "choices")):
        return {}
    texts = {f"{name}.{key}": item for key, item in value.items() if isinstance(item, str) and item.strip()}
    listed = value.get("text")
    if not texts and isinstance(listed, list) and listed and isinstance(listed[0], str):
        return {f"{name}.text.0": listed[0]}
    return texts if len(texts) == len(value) == 2 and all(len(key) <= LANGUAGE for key in value) else {}


def text_inside(column: str, value: Any) -> str:
    """Return how the text in a column is named, such as `inputs.question` or `answers.0`; empty where there may be several."""
    if isinstance(value, list):
        return f"{column}.0" if value and isinstance(value[0], str) and len(value) == 1 else ""
    texts = [key for key, item in value.items() if isinstance(item, str)] if isinstance(value, dict) else []
    known = [key for key in texts if bare(key) in (*CONTENT_KEYS, *PROMPTS, *COMPLETIONS)]
    chosen = texts if len(texts) == 1 == len(value) else known
    return f"{column}.{chosen[0]}" if len(chosen) == 1 else ""
