"""What to tell somebody whose columns are not those that a format needs, or hold what sft should not learn."""

import re
from collections.abc import Sequence
from typing import Any

from finetune_trainer.data.formats.exports import export_of
from finetune_trainer.data.formats.leaves import Kind, leaves
from finetune_trainer.data.formats.names import (
    COMPLETIONS,
    CONTENT_KEYS,
    HISTORIES,
    PLAIN_TEXTS,
    PREFERENCES,
    PROMPTS,
    ROLE_KEYS,
    ROLES,
    SYSTEMS,
    TURNS,
    bare,
    is_empty,
    is_harmless,
    is_reply,
    words_of,
)
from finetune_trainer.data.formats.saying import answers, best
from finetune_trainer.data.formats.suggest import Suggestion, in_yaml
from finetune_trainer.data.reading.record import Record, kind

NEEDED = "a column with messages, or a prompt and a completion, or text"
NUMBER = re.compile(r"[-+]?\d+([.,]\d+)*")
DIGITS = re.compile(r"\d+")
MOST_WORDS = 5
"""So many words the name of a column has."""

SHOWN = 40
"""So many characters of such a name a message shows."""

KNOWN = frozenset(
    {*PROMPTS, *COMPLETIONS, *TURNS, *PLAIN_TEXTS, *CONTENT_KEYS, *ROLE_KEYS, *SYSTEMS, *HISTORIES} - {"a", "q"}
)
"""Names that say that a row of names is there."""

SPEAKING = frozenset((*ROLE_KEYS, *(f"{key}s" for key in ROLE_KEYS)))
"""Words in the names of columns that say who speaks."""

WRITERS = ("user", "username", "userid", "authorid", "senderid", "fromid", "name")
"""Names of columns that say who wrote a message, but not in which role."""

TOKENISED = "input_ids"

DESCRIBED = 6
"""So many columns a message describes."""


def several_answers(record: Record, column: str, uri: str) -> str:
    """Say that the rows hold many answers, such as UltraFeedback before it was turned into pairs, or the steps of one."""
    if judging := _step_labels(record, column):
        return (
            f"{uri} looks like stepwise supervision (columns {exist(record)}): {column} holds the steps of one answer, and {judging} says "
            f"which are right. Of the rows whose {judging} are all true, join the steps into a column completion, and leave out {judging}"
        )
    return (
        f"{uri} holds several answers to each question in {column} (columns {exist(record)}): write the one to learn into a "
        "column completion"
    )


def _step_labels(record: Record, column: str) -> str:
    """Return the column that judges each item of another one as right or wrong; empty without one."""
    steps = record[column]
    judging = (
        name
        for name, value in record.items()
        if isinstance(steps, list)
        and isinstance(value, list)
        and len(value) == len(steps)
        and all(isinstance(item, bool) for item in value)
    )
    return next(judging, "")


def several_questions(columns: Sequence[str], uri: str) -> str:
    """Say that each row holds several questions with their answers, which may be turns or questions of their own."""
    question, answer = columns[:2]
    return (
        f"{uri} holds several questions with their answers in each row (columns {', '.join(columns)}): write each question with its "
        "answer into a row of its own, or, if they are the turns of one conversation, rename these columns to user_1, assistant_1, "
        f"user_2 and so on; to learn only the first, set columns: {{prompt: {in_yaml(question)}, completion: {in_yaml(answer)}}}"
    )


def one_message_a_row(record: Record, uri: str, text: str, held: int, rows: int) -> str:
    """Say that conversations are cut into rows, as OASST's are; `rows` is 0 where those with a message were not counted."""
    each = "each row" if held == rows else f"each of {held:,} rows"
    names = [str(name) for name in record]
    speaks = next((name for name in names if bare(name) in ROLE_KEYS), "") or next(
        (name for name in names if bare(name) in WRITERS), ""
    )
    follows = next((name for name in names if is_reply(name)), "")
    named = " and ".join(filter(None, (speaks, text)))
    role = record.get(speaks)
    said = "" if isinstance(role, str) and role.strip().lower() in ROLES else ", each with a role, user or assistant"
    order = f", following {follows}" if follows else ""
    return (
        f"{uri} holds one message in {each} ({'columns' if speaks else 'column'} {named}), so no row has a question with its answer: "
        f"join the messages of a conversation into one row with a column messages{said}{order}, or set "
        f"columns: {{text: {in_yaml(text)}}} to learn each message as plain text"
    )


def without_roles(record: Record, column: str) -> str:
    """Say that a list of texts may be questions only, and how to pair it with a list of as many others."""
    name = in_yaml(column)
    said = f"its {column} is a list of texts that does not say who speaks: "
    otherwise = "; else write each text as an object with role and content"
    others = [name for name in record if name != column and not words_of(name) & SPEAKING]
    answers = next((other for other in others if _is_parallel(record[other], record[column])), "")
    if not answers:
        return f"{said}if it is a question, its answer, and so on, set columns: {{messages: {name}}}{otherwise}"
    return (
        f"{said}if {answers} holds the answers to them, write each text with its answer into a column messages, or set columns: "
        f"{{prompt: {in_yaml(f'{column}.0')}, completion: {in_yaml(f'{answers}.0')}}} to learn the first of each{otherwise}"
    )


def _is_parallel(value: Any, texts: Any) -> bool:
    return (
        isinstance(value, list)
        and isinstance(texts, list)
        and len(value) == len(texts)
        and all(isinstance(item, str) for item in value)
    )


def without_system(system: str, text: str, uri: str) -> str:
    """Say that plain text has no place for a system prompt."""
    return (
        f"{uri}: columns.system names {system}, but its rows are plain text (column {text}), which has no system prompt: remove "
        "columns.system, or name the question and the answer in columns.prompt and columns.completion"
    )


def missing(record: Record, uri: str, suggested: Suggestion | str | None) -> str:
    """Say which columns exist, which are needed, and how to name them as was tried; a text says what to write first."""
    if _has_no_header(record):
        return without_header(record, uri)
    if export := export_of(record):
        return f"{uri} is an export of {export}"
    return f"{uri} has the columns {exist(record)}, but {NEEDED} is needed: {_remedy(record, suggested)}"


def _remedy(record: Record, suggested: Suggestion | str | None) -> str:
    if TOKENISED in record:
        return "tokens are not read, so write the text that they stand for into a column text, or into columns prompt and completion"
    if isinstance(suggested, str) and suggested:
        return suggested
    if suggested:
        return f"name them in datasets[].columns, such as {suggested}"
    if answer := _lone_answer(record):
        return (
            f"{answer} holds answers, and nothing holds the questions: write the question of each row into a column prompt, and set "
            f"columns: {{prompt: prompt, completion: {in_yaml(answer)}}}"
        )
    if len([leaf for leaf in leaves(record, harmless=True) if leaf.kind is Kind.TEXT]) > 1:
        return (
            "their names do not say which is the answer. If one is, set columns: {prompt: ..., completion: ...} with the names of "
            "the question and the answer, else write it into a column completion"
        )
    return f"none of them holds the answer as text{_seen(record)}, so write it into a column completion"


def _lone_answer(record: Record) -> str:
    """Return what holds answers where nothing holds their questions; empty where something does."""
    found = [leaf for leaf in leaves(record) if leaf.kind is not Kind.CHOICES]
    told = best(found, answers)
    return told[0].path if told and all(map(answers, found)) else ""


def without_header(record: Record, uri: str) -> str:
    """Say that the names of the columns may be a row of the data; forms have whole questions as names, too."""
    shown = ", ".join(name if len(name) <= SHOWN else f"{name[:SHOWN]}..." for name in map(str, record))
    return (
        f"{uri} has the columns {shown}, which look like data, not column names: if the first line of the table is a row, add a "
        "line with the names above it, such as prompt and completion; if it holds the names, say in datasets[].columns which is which"
    )


def _has_no_header(record: Record) -> bool:
    """Tell a row of values from names: a number, a sentence, or what differs from the row below in its numbers only."""
    named = [(str(name), value) for name, value in record.items() if str(name).strip()]
    if any(bare(name) in KNOWN for name, _ in named):
        return False
    return any(_is_value(name) or _is_alike(name, value) for name, value in named)


def _is_value(name: str) -> bool:
    words = name.split()
    is_sentence = len(words) > 1 and words[-1].endswith((".", "!", "?"))
    return is_sentence or len(words) > MOST_WORDS or NUMBER.fullmatch(name) is not None


def _is_alike(name: str, value: Any) -> bool:
    return (
        isinstance(value, str) and DIGITS.search(name) is not None and DIGITS.sub("0", name) == DIGITS.sub("0", value)
    )


def without_text(record: Record, uri: str) -> str:
    """Say which column a corpus most likely has its text in: by its name, else the longest."""
    worse = {bad for _, bad in PREFERENCES}
    found = [
        name for name, value in record.items() if _is_told(value) and isinstance(value, str) and bare(name) not in worse
    ]
    remedy = "write the text into a column text"
    if found:
        known = [name for plain in PLAIN_TEXTS for name in found if bare(name) == plain]
        column = known[0] if known else max(found, key=lambda name: len(record[name]))
        remedy = f"name it in datasets[].columns, such as columns: {{text: {in_yaml(column)}}}"
    if _has_no_header(record):
        return without_header(record, uri)
    return f"{uri} has the columns {exist(record)}, but objective cpt learns a column with text: {remedy}"


def _is_told(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _seen(record: Record) -> str:
    """Say what a row holds, where no column of it can be read."""
    filled = [
        (name, value)
        for name, value in record.items()
        if not is_empty(value) and (isinstance(value, list | dict) or not is_harmless(str(name)))
    ]
    told = [f"{name} is {described(value)}" for name, value in filled[:DESCRIBED]]
    return f" (in a row: {', '.join(told)})" if told else ""


def described(value: Any) -> str:
    """Say what a value is; of a list also what it holds."""
    if not isinstance(value, list) or not value:
        return kind(value)
    words = {"text": "texts", "an object": "objects", "a list": "lists"}
    return f"a list of {words.get(kind(value[0]), 'numbers' if isinstance(value[0], int | float) else 'values')}"


def exist(record: Record) -> str:
    """Return the columns that are there, for a sentence."""
    return ", ".join(map(str, record)) or "none"
