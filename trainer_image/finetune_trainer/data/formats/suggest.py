"""Which columns a job could name for a record that no form fits: what to write into datasets[], most likely first.

Pure guesses by names and values; tried.py keeps those that work.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finetune_trainer.data.formats.choices import is_pointer, written
from finetune_trainer.data.formats.codes import NONE, Codes
from finetune_trainer.data.formats.leaves import Kind, Leaf, asks_only, leaves
from finetune_trainer.data.formats.names import (
    HISTORIES,
    INCIDENTAL,
    MEDIA,
    PLAIN_TEXTS,
    SPEAKERS,
    SYSTEMS,
    bare,
    is_harmless,
    is_reasoning,
    words_of,
)
from finetune_trainer.data.formats.roles import TurnForm, mapping
from finetune_trainer.data.formats.saying import SURE, answers, asks, best, classifies, is_numbered
from finetune_trainer.data.formats.spoken import spoken_lines
from finetune_trainer.data.formats.texts import is_alternating, lacks_roles
from finetune_trainer.data.reading.record import Record

PLAIN = re.compile(r"[^\W\d][\w .-]*")
"""A name that YAML takes without quotes."""

MOST_JOINED = 3
"""So many columns a suggestion joins into a question: of more nobody knows which are part of it."""

NUMBERS = "holds numbers: write names in place of them if they stand for classes"

CLASS_DIGITS = 2
"""So many digits the number of a class has; more are a year or an amount."""

LEAST_TEXT = 64
"""So many characters the text of a corpus has."""

REWORDED = frozenset("original originals rephrased rewritten paraphrase paraphrased raw".split())
"""Words in the names of columns that say the question once more, such as original_question beside query (MetaMathQA)."""

POSTS = ("body", "description", "selftext", "details")
"""What people write below a title."""


KEEP_REASONING = (
    "to learn the reasoning, too, write each row as messages, with reasoning_content beside content in the answer"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What a job could say of its columns."""

    columns: dict[str, str] = field(default_factory=dict)
    prompt_template: str = ""
    note: str = ""
    """What else is to be known of it."""
    proven: bool = True
    """False where only a reader of the texts can tell who speaks, so that nobody may take it unasked."""

    def __str__(self) -> str:
        """As it stands in YAML, for a sentence."""
        columns = ", ".join(f"{role}: {in_yaml(column)}" for role, column in self.columns.items())
        template = f" and promptTemplate: {quoted(self.prompt_template)}" if self.prompt_template else ""
        return f"columns: {{{columns}}}{template}{self.note}"


def in_yaml(name: str) -> str:
    """Return a name as YAML takes it."""
    return name if PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def quoted(template: str) -> str:
    """Return a template as YAML takes it on one line."""
    return '"' + template.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def suggestions(record: Record, codes: Codes = NONE) -> Iterator[Suggestion]:
    """Yield what may be meant, most likely first; a column of codes is neither a question nor an answer, unless it is named so."""
    found = [leaf for leaf in leaves(record) if _may_be_told(leaf, codes)]
    if alone := _alternating_alone(record, found):
        proven = not lacks_roles(record[alone])
        note = "" if proven else ", if its texts are a question, its answer, and so on"
        yield Suggestion(columns={"messages": alone}, note=note, proven=proven)
    yield from _of_turns(found, codes)
    if text := _beside_words_only(record, leaves(record, harmless=True)):
        yield Suggestion(columns={"text": text}, note=" and objective: cpt")
    yield from _of_pairs(found, codes)
    everything = [leaf for leaf in leaves(record, harmless=True) if _may_be_told(leaf, codes)]
    if any(map(answers, everything)):
        yield from _of_turns(everything, codes)
        yield from _of_pairs(everything, codes)
    for leaf in found:
        if leaf.kind is Kind.TEXT and isinstance(leaf.value, str) and (turns := spoken_lines(leaf.value)):
            unknown = mapping(turns, TurnForm())
            yield Suggestion(columns={"messages": leaf.path}, note=f" and roles: {{{unknown}}}" if unknown else "")
    if not codes.told and len(found) == len(everything) == 1 and _is_plain_text(found[0]) and not _holds_more(record):
        yield Suggestion(columns={"text": found[0].path})


def _may_be_told(leaf: Leaf, codes: Codes) -> bool:
    is_part = asks(leaf) > 0 and bare(leaf.names[-1]) not in SPEAKERS
    return leaf.path not in codes or answers(leaf) > 0 or is_part


def _beside_words_only(record: Record, found: Sequence[Leaf]) -> str:
    """Return the column of a corpus whose other columns hold words, such as the path and the language of a program; empty without."""
    texts = [leaf for leaf in found if leaf.kind is Kind.TEXT and isinstance(leaf.value, str)]
    told = [leaf for leaf in texts if bare(leaf.path.rpartition(".")[2]) in PLAIN_TEXTS and len(leaf.value.split()) > 1]
    others = [leaf for leaf in texts if leaf not in told]
    if len(told) != 1 or len(texts) != len(found) or len(told[0].value) < LEAST_TEXT or _holds_more(record):
        return ""
    words_only = all(len(leaf.value.split()) < 2 and not answers(leaf) and not asks(leaf) for leaf in others)
    return told[0].path if words_only and asks(told[0]) < SURE else ""


def _holds_more(record: Record) -> bool:
    """Tell whether a record holds lists or objects that may be what is to be learned."""
    held = [str(name) for name, value in record.items() if isinstance(value, list | dict) and value]
    return any(not is_harmless(name) and not words_of(name) & MEDIA for name in held)


def _is_plain_text(leaf: Leaf) -> bool:
    return leaf.kind is Kind.TEXT and asks(leaf) < SURE and not is_harmless(leaf.names[-1])


def _alternating_alone(record: Record, found: Sequence[Leaf]) -> str:
    """A list of texts, a question and its answer and so on, beside which nothing says anything."""
    names = {leaf.path.split(".")[0] for leaf in found}
    value = record.get(next(iter(names))) if len(names) == 1 else None
    return next(iter(names)) if isinstance(value, list) and len(value) > 1 and is_alternating(value) else ""


def _of_turns(found: Sequence[Leaf], codes: Codes) -> Iterator[Suggestion]:
    turns = [leaf for leaf in found if leaf.kind is Kind.TURNS]
    texts = [leaf for leaf in found if leaf.kind is Kind.TEXT]
    for leaf in turns:
        if bare(leaf.names[-1]) in HISTORIES:
            read = f"; {leaf.path} is then read as the earlier turns"
            yield from (replace(pair, note=read) for pair in _of_pairs(texts, codes))
        if asks_only(leaf.value):
            told = best([*texts, *(one for one in turns if one is not leaf)], answers)
            yield from (
                Suggestion(columns={"prompt": leaf.path, "completion": one.path}, note=_doubt(one)) for one in told
            )
        yield Suggestion(columns={"messages": leaf.path})


def _of_pairs(found: Sequence[Leaf], codes: Codes) -> Iterator[Suggestion]:
    """A question and its answer, told by names; of two texts that say nothing the second is the answer."""
    texts = [leaf for leaf in found if leaf.kind is Kind.TEXT and (answers(leaf) or not _counts(leaf.value))]
    choices = [leaf for leaf in found if leaf.kind is Kind.CHOICES]
    answering = [leaf for leaf in found if leaf.kind is Kind.TURNS and answers(leaf)]
    told = best([*texts, *answering], answers)
    for answer in sorted(told, key=lambda leaf: (-answers(leaf), leaf.path in codes)):
        yield from _asked([leaf for leaf in texts if leaf is not answer], choices, answer)
    thoughts = [leaf for leaf in texts if is_reasoning(leaf.names[-1], leaf.value)]
    rest = [leaf for leaf in texts if leaf not in thoughts]
    if len(rest) == 2 and not choices and not any(map(answers, rest)) and not all(map(asks, rest)):
        first, second = sorted(rest, key=asks, reverse=True)
        either = f", if {second.path} holds the answers" if asks(first) and not thoughts else ""
        either = (
            either if asks(first) and not is_harmless(second.names[-1]) else ", or the other way round"
        )  # a title may ask
        kept = f"; {thoughts[0].path} is left out: {KEEP_REASONING}" if thoughts else ""
        yield Suggestion(columns={"prompt": first.path, "completion": second.path}, note=either + kept)


def _asked(others: Sequence[Leaf], choices: Sequence[Leaf], answer: Leaf) -> Iterator[Suggestion]:
    """The question that an answer belongs to, joined from several columns where their names say so."""
    note = _doubt(answer)
    telling = [leaf for leaf in others if not answers(leaf)] or list(others)
    telling = [leaf for leaf in telling if bare(leaf.names[-1]) not in SYSTEMS and not _holds_row(leaf, answer, others)]
    telling = [leaf for leaf in telling if not _is_aside(leaf) and not words_of(leaf.names[-1]) & REWORDED] or telling
    whole = [leaf for leaf in telling if not leaf.is_first or (answer.is_first and _belongs(leaf, answer))]
    telling = _unrepeated(whole or telling)
    known = best(telling, asks)[:1]
    one_of_many = is_numbered(answer)
    beside = [leaf for leaf in telling if leaf not in known and asks(leaf) and not (one_of_many and is_numbered(leaf))]
    asked = _of_a_post(telling)
    if known and asks(known[0]) == SURE:
        about = [leaf for leaf in beside if asks(leaf) < SURE]
        asked = [*about, *known, *(leaf for leaf in beside if leaf not in about)]
    if len(asked) > MOST_JOINED and known:
        asked = known
    if asked and answers(answer) < SURE and all(is_harmless(leaf.names[-1]) for leaf in asked):
        note = f", or the other way round{note}"  # an abstract may be asked for by its title
    if choices and asked and len(asked) <= MOST_JOINED:
        parts = [*(f"{{{leaf.path}}}" for leaf in asked), written(choices[0], answer.value)]
        named = ", ".join(choices[0].columns) or choices[0].path
        which = f"; {answer.path} only says which of {named} is right"
        yield Suggestion(
            columns={"completion": answer.path},
            prompt_template="\n\n".join(parts),
            note=which if is_pointer(answer.value) else note,
        )
    if asked and len(asked) <= MOST_JOINED:
        yield _question(asked, answer, note)
    if asked:
        yield _question(known or [max(asked, key=lambda leaf: len(str(leaf.value)))], answer, note)


def _is_aside(leaf: Leaf) -> bool:
    """Tell what is said of the question, such as prompt_source; a title may be part of it."""
    return is_harmless(leaf.names[-1]) and words_of(leaf.names[-1]) & INCIDENTAL != {"title"}


def _belongs(leaf: Leaf, answer: Leaf) -> bool:
    """Tell of the first of several whether it is the question, or lies in the same item of its list as the answer."""
    item = re.sub(r"(\.\d+)\.\D+$", r"\1.", leaf.path)
    return asks(leaf) == SURE or (item != leaf.path and answer.path.startswith(item))


def _holds_row(leaf: Leaf, answer: Leaf, others: Sequence[Leaf]) -> bool:
    """Tell whether a text is the whole row, written out: the answer with something else that is a column of its own."""
    text = str(leaf.value)
    told = (other for other in others if other is not leaf and not is_harmless(other.names[-1]))
    return str(answer.value) in text and any(str(other.value) in text for other in told)


def _of_a_post(found: Sequence[Leaf]) -> list[Leaf]:
    """What asks, with the title above a body; all where nothing says that it asks."""
    asking = [leaf for leaf in found if asks(leaf)]
    if any(bare(leaf.names[-1]) in POSTS for leaf in asking):
        asking = [leaf for leaf in found if leaf in asking or bare(leaf.names[-1]) == "title"]
    return asking or list(found)


def _unrepeated(found: Sequence[Leaf]) -> list[Leaf]:
    """Leave out texts that another one holds."""
    texts = [str(leaf.value).strip() for leaf in found]
    return [
        leaf
        for number, leaf in enumerate(found)
        if not any(texts[number] in other and texts[number] != other for other in texts)
    ]


def _doubt(answer: Leaf) -> str:
    if answer.is_first:
        return ", which learns the first answer of each question"
    if isinstance(answer.value, str) and answer.value.strip().isdigit() and len(answer.value.strip()) <= CLASS_DIGITS:
        return f"; {answer.path} {NUMBERS}"
    return ""


def _question(asked: Sequence[Leaf], answer: Leaf, note: str) -> Suggestion:
    if any(leaf.is_first for leaf in asked):
        note = ", which learns the first of each list; make a row of each question with its answer to learn all"
    if len(asked) == 1:
        return Suggestion(columns={"prompt": asked[0].path, "completion": answer.path}, note=note)
    joined = "\n\n".join(f"{{{leaf.path}}}" for leaf in asked)
    return Suggestion(columns={"completion": answer.path}, prompt_template=joined, note=note)


def unwritten_answer(record: Record) -> str:
    """Return the column that holds the answer as a number or truth value, such as the number of a class; empty without one."""
    found = [name for name, value in record.items() if _is_number(value) and classifies(str(name))]
    return max(found, key=classifies, default="")


def _counts(value: Any) -> bool:
    """Tell a number in a table, which is a text there."""
    return isinstance(value, str) and value.strip().isdigit()


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        or _counts(value)
        or (isinstance(value, list) and bool(value) and all(map(_is_number, value)))
    )
