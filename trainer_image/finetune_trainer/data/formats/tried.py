"""Suggestions that work: each is tried on the record before a message names it."""

from collections.abc import Iterator
from dataclasses import replace

from finetune_contract import Columns, Dataset

from finetune_trainer.data.formats.advice import described
from finetune_trainer.data.formats.choices import pointed_at
from finetune_trainer.data.formats.chosen import PLACEHOLDER, named_columns
from finetune_trainer.data.formats.codes import FEW_WORDS, NONE, Codes
from finetune_trainer.data.formats.detect import ChatForm, detect
from finetune_trainer.data.formats.inside import with_inner
from finetune_trainer.data.formats.invalid import NoForm, NotText, RowInvalid
from finetune_trainer.data.formats.leaves import Kind, leaves
from finetune_trainer.data.formats.names import CLASSES, words_of
from finetune_trainer.data.formats.roles import UnknownRole
from finetune_trainer.data.formats.rows import Row, to_row
from finetune_trainer.data.formats.suggest import Suggestion, suggestions, unwritten_answer
from finetune_trainer.data.reading.record import Record
from finetune_trainer.errors import UserError

COMPLETION = "completion"
"""The column that a message asks for."""


def working(record: Record, dataset: Dataset, chat: ChatForm, codes: Codes = NONE) -> Iterator[Suggestion]:
    """Yield the suggestions with which a record teaches something, most likely first."""
    return (
        _with_codes(one, codes)
        for one in suggestions(record, codes)
        if not _is_misnamed(one, record) and works(one, record, dataset, chat)
    )


def _is_misnamed(suggestion: Suggestion, record: Record) -> bool:
    """Tell whether an answer has the name of a class and holds sentences, such as an intent in CoNaLa, which asks."""
    answer = suggestion.columns.get(COMPLETION, "")
    if not words_of(answer.rpartition(".")[2]) & (CLASSES - {"label", "labels"}):
        return False
    value = with_inner(record, [answer]).get(answer)
    return isinstance(value, str) and len(value.split()) > FEW_WORDS


def _with_codes(suggestion: Suggestion, codes: Codes) -> Suggestion:
    """Say of answers that they are a few words only, or ids."""
    answer = suggestion.columns.get(COMPLETION, "")
    if answer not in codes or answer in suggestion.note:
        return suggestion
    return replace(suggestion, note=f"{suggestion.note}; {answer} holds {codes.told[answer]}")


def without_answers(record: Record, dataset: Dataset, chat: ChatForm, codes: Codes) -> str:
    """Say that beside one column of sentences there are codes only; empty where there are more sentences, or no codes."""
    texts = [leaf for leaf in leaves(record, harmless=True) if leaf.kind is Kind.TEXT]
    if not codes.told or len(texts) - len(codes.told) > 1:
        return ""
    asked = _asked_with_completion(record, dataset, chat, codes)
    return (
        f"none of them looks like answers ({codes.sentence()}). To learn one of them all the same, name it in columns.completion; else "
        f"write the answer of each row into a column {COMPLETION}" + (f", and set {asked}" if asked else "")
    )


def instead(problem: NotText, record: Record, dataset: Dataset, chat: ChatForm, codes: Codes = NONE) -> str:
    """Say of a column that holds no text which names lead to the text that is meant."""
    if pointed_at(record, problem.column):
        return f"its {with_answer(record, dataset, chat, problem.column)}"
    into = f"{problem.column}."
    named = [
        (one, (*one.columns.values(), *PLACEHOLDER.findall(one.prompt_template)))
        for one in working(record, dataset, chat, codes)
        if one.proven
    ]
    leading = [one for one, paths in named if any(path.startswith(into) for path in paths)]
    around = [one for one, paths in named if problem.column not in paths and "completion" in one.columns]
    suggested = next(iter(leading or around), None)
    return f"{problem.what}: set {suggested}" if suggested else str(problem)


def with_answer(record: Record, dataset: Dataset, chat: ChatForm, column: str = "") -> str:
    """Say what to write where the answer is there as a number or truth value only; empty where there is none."""
    column = column or unwritten_answer(record)
    if not column:
        return ""
    pointed = pointed_at(record, column)
    named = pointed or (
        f"write it as text, or the name of the class that it stands for, into a column completion in place of {column}"
    )
    others = {name: value for name, value in record.items() if name != column}
    asked = _asked_with_completion(others, dataset, chat)
    said = f"{column} is {described(record[column])}: {named}"
    return f"{said}, and set {asked}" if asked else said


def _asked_with_completion(record: Record, dataset: Dataset, chat: ChatForm, codes: Codes = NONE) -> Suggestion | None:
    """Return what to set once the answers stand in a column of their own."""
    whole = record | {COMPLETION: "an answer"}
    return next(
        (one for one in working(whole, dataset, chat, codes) if one.columns.get(COMPLETION) == COMPLETION), None
    )


def works(suggestion: Suggestion, record: Record, dataset: Dataset, chat: ChatForm) -> bool:
    """Tell whether a record is read as a suggestion says, and teaches something."""
    kept = Columns(system=dataset.columns.system, role=dataset.columns.role, content=dataset.columns.content)
    asked = replace(
        dataset,
        columns=replace(kept, **suggestion.columns),
        prompt_template=suggestion.prompt_template,
    )
    whole = with_inner(record, [name for name in named_columns(asked) if "." in name])
    try:
        row = to_row(whole, detect(asked, whole, "", chat))
    except RowInvalid as problem:
        return all(
            isinstance(part.__cause__, UnknownRole) for part in problem.parts
        )  # the next message says how to map it
    except (NoForm, UserError):
        return False
    return teaches(row)


def teaches(row: Row) -> bool:
    """Tell whether there is something to learn: an answer to something, or text."""
    if not row.messages:
        return bool(row.text.strip())
    answers = [
        number
        for number, message in enumerate(row.messages)
        if message["role"] == "assistant" and number >= row.first_learned and number not in row.unlearned
    ]
    said = [number for number, message in enumerate(row.messages) if (message["content"] or "").strip()]
    return any((number in said or row.messages[number].get("tool_calls")) and said[0] < number for number in answers)
