"""Pictures, sounds and films with a text for each, such as an imagefolder: a language model cannot see or hear. Called by detect."""

from typing import Any

from finetune_trainer.data.formats.leaves import Kind, leaves
from finetune_trainer.data.formats.names import CLASSES, MEDIA, is_empty, words_of
from finetune_trainer.data.formats.saying import answers
from finetune_trainer.data.formats.suggest import in_yaml
from finetune_trainer.data.reading.foreign import MEDIA_FILES
from finetune_trainer.data.reading.record import Record
from finetune_trainer.errors import CountedError

BESIDE_MEDIA = ("caption", "captions", "text", "transcription", "transcript", "sentence", "description")
"""Words in the names of columns that say what is seen or heard, most likely first."""


def refuse_captions(record: Record, uri: str) -> None:
    """Raise CountedError where a text stands beside a picture, a sound or a film, and nothing else is there to learn."""
    column = next((str(name) for name, value in record.items() if _is_media(str(name), value)), "")
    found = [leaf for leaf in leaves({**record, column: None}) if leaf.kind is not Kind.CHOICES] if column else []
    known = [leaf for word in BESIDE_MEDIA for leaf in found if word in words_of(leaf.names[-1])]
    told = [leaf for leaf in found if answers(leaf) and not words_of(leaf.names[-1]) & CLASSES]
    if not column or told or (len(found) > 1 and not known):
        return
    text = next((leaf.path for leaf in (known or found)), "")
    raise CountedError(
        lambda one: _is_media(column, one.get(column)), lambda held, rows: _captions(column, text, uri, held, rows)
    )


def _is_media(name: str, value: Any) -> bool:
    """Tell the file of a picture, a sound or a film, or the thing itself in a column such as image."""
    if isinstance(value, str):
        return value.strip().lower().endswith(MEDIA_FILES)
    if isinstance(value, dict):
        return bool(words_of(name) & MEDIA) and ("bytes" in value or "path" in value)
    return bool(words_of(name) & MEDIA) and not is_empty(value) and isinstance(value, bytes | list)


def _captions(column: str, text: str, uri: str, held: int, rows: int) -> str:
    count = f" in {held:,} of {rows:,} rows" if rows else ""
    said = (
        f"{uri} holds pictures, sounds or films with a text for each (column {column}{count}), but a language model learns from text "
        "alone"
    )
    if not text:
        return f"{said}: write questions with their answers as text, which need nothing else to be understood"
    return f"{said}. To learn the texts in {text} by themselves, as plain text, set columns: {{text: {in_yaml(text)}}}"
