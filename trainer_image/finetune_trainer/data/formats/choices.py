"""The choices of a question: how they are written into it, and answers that only point at one of them. Called by suggest and tried."""

from typing import Any

from finetune_trainer.data.formats.leaves import LETTERS, Kind, Leaf, leaves
from finetune_trainer.data.formats.names import bare
from finetune_trainer.data.reading.record import Record

MOST_CHOICES = 6
"""So many choices a suggestion writes into a question."""


def is_pointer(value: Any) -> bool:
    """Tell whether an answer is the number or letter of a choice."""
    if isinstance(value, str):
        return value.strip().isdigit() or is_letter(value)
    return isinstance(value, int) and not isinstance(value, bool)


def is_letter(value: Any) -> bool:
    """Tell whether an answer is one letter."""
    return isinstance(value, str) and value.strip().isalpha() and len(value.strip()) == 1


def pointed_at(record: Record, column: str) -> str:
    """Say what to write in place of the number of a choice; empty where there are no choices."""
    choices = [leaf for leaf in leaves(record) if leaf.kind is Kind.CHOICES]
    if not choices or not is_pointer(record.get(column)):
        return ""
    named = ", ".join(choices[0].columns) or choices[0].path
    return f"it only says which of {named} is right, so write the text of that one into a column completion"


def written(choices: Leaf, answer: Any) -> str:
    """Write choices under each other, each behind its label, or the letter that an answer may name."""
    if choices.columns:
        return "\n".join(f"{name[-1]}. {{{name}}}" for name in choices.columns)
    if isinstance(choices.value, dict):
        keys = [f"{choices.path}.{key}" for key in choices.value]
        labels = [key for key in keys if _is_label(key)]
        texts = [key for key in keys if key not in labels]
        count = min(MOST_CHOICES, *map(len, choices.value.values()))
        return "\n".join(". ".join(f"{{{key}.{number}}}" for key in (*labels, *texts)) for number in range(count))
    return "\n".join(
        _one_written(f"{choices.path}.{number}", choice, number if is_letter(answer) else None)
        for number, choice in enumerate(choices.value[:MOST_CHOICES])
    )


def _one_written(path: str, choice: Any, number: int | None) -> str:
    keys = (
        [f"{path}.{key}" for key, item in choice.items() if isinstance(item, str)] if isinstance(choice, dict) else []
    )
    label = next((key for key in keys if _is_label(key)), "")
    text = next((key for key in keys if key != label), path)
    if label:
        return f"{{{label}}}. {{{text}}}"
    return f"{{{text}}}" if number is None else f"{LETTERS[number].upper()}. {{{text}}}"


def _is_label(path: str) -> bool:
    return bare(path.rpartition(".")[2]) in ("label", "key", "letter", "id")
