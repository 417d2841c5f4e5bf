"""What to tell somebody whose columns are not those that a format needs, or hold what sft should not learn."""

import json
import re
from typing import Any

from finetune_trainer.data.formats.inside import texts_inside
from finetune_trainer.data.formats.names import (
    ANSWERING,
    ASKED,
    ASSISTANT,
    COMPLETIONS,
    CONTENT_KEYS,
    HISTORIES,
    INCIDENTAL,
    PLAIN_TEXTS,
    PREFERENCES,
    PROMPTS,
    ROLE_KEYS,
    ROLES,
    SYSTEMS,
    TURNS,
    USER,
    bare,
    is_empty,
    words_of,
)
from finetune_trainer.data.formats.texts import is_alternating
from finetune_trainer.data.formats.transcripts import written_out
from finetune_trainer.data.reading.record import Record

NEEDED = "a column with messages, or a prompt and a completion, or text"
PLAIN = re.compile(r"[^\W\d][\w .-]*")
"""A name that YAML takes without quotes."""

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

TOKENISED = "input_ids"
MOST_JOINED = 3
"""So many columns a suggestion joins into a question: of more nobody knows which are part of it."""


def several_answers(record: Record, column: str, uri: str) -> str:
    """Say that the rows hold many answers, such as UltraFeedback before it was turned into pairs."""
    return (
        f"{uri} holds several answers to each question in {column} (columns {exist(record)}): write the one to learn into a "
        "column completion"
    )


def one_message_a_row(uri: str, text: str) -> str:
    """Say that conversations are cut into rows, as OASST's are."""
    return (
        f"{uri} holds one message in each row (columns such as role and text), so no row has a question with its answer: join the "
        "messages of a conversation into one row with a column messages, following parent_id where there is one, or set "
        f"columns: {{text: {text}}} to learn each message as plain text"
    )


def without_system(system: str, text: str, uri: str) -> str:
    """Say that plain text has no place for a system prompt."""
    return (
        f"{uri}: columns.system names {system}, but its rows are plain text (column {text}), which has no system prompt: remove "
        "columns.system, or name the question and the answer in columns.prompt and columns.completion"
    )


def missing(record: Record, uri: str) -> str:
    """Say which columns exist, which are needed, and how to name them."""
    if _has_no_header(record):
        return without_header(record, uri)
    if isinstance(record.get("mapping"), dict) and "current_node" in record:
        return (
            f"{uri} is an export of ChatGPT: each conversation is a tree in mapping. Follow parent from current_node to the root, "
            "and write the role (author.role) and text (content.parts) of each message into a column messages"
        )
    mapping = suggested(record)
    remedy = f"name them in datasets[].columns, such as {mapping}"
    if not mapping:
        remedy = "none of them holds the answer as text, so write it into a column completion"
        if len(_telling(record)) > 1:
            remedy = (
                "their names do not say which is the answer. If one is, set columns: {prompt: ..., completion: ...} with the "
                "names of the question and the answer, else write it into a column completion"
            )
    if TOKENISED in record:
        remedy = "tokens are not read, so write the text that they stand for into a column"
    return f"{uri} has the columns {exist(record)}, but {NEEDED} is needed: {remedy}"


def suggested(record: Record) -> str:
    """Return what to write into datasets[] so that records like this one are read; empty where nothing tells."""
    return _answer_inside(record) or _mapping(record)


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
        remedy = f"name it in datasets[].columns, such as columns: {{text: {_in_yaml(column)}}}"
    if _has_no_header(record):
        return without_header(record, uri)
    return f"{uri} has the columns {exist(record)}, but objective cpt learns a column with text: {remedy}"


def _mapping(record: Record) -> str:
    """Suggest the columns whose names or values say what they are; of two texts the second is the answer."""
    if inner := texts_inside(record):
        return _mapping(inner)
    turns = next((name for name, value in record.items() if is_turns(value)), "")
    said_alone = [name for name, value in record.items() if not is_empty(value) and not words_of(name) & INCIDENTAL]
    if (
        len(said_alone) == 1
        and isinstance(texts := record[said_alone[0]], list)
        and len(texts) > 1
        and is_alternating(texts)
    ):
        return f"columns: {{messages: {_in_yaml(said_alone[0])}}}"
    if turns and bare(turns) in HISTORIES and (beside := _mapping({**record, turns: None})):
        return f"{beside}; {turns} is then read as the earlier turns"
    if turns:
        return _of_turns(record, turns)
    said = [name for name, value in record.items() if _is_told(value)]
    telling = _telling(record)
    plain = not any(isinstance(value, list | dict) and value for value in record.values())
    if len(telling) == len(said) == 1 and plain and bare(telling[0]) not in PROMPTS:
        return f"columns: {{text: {_in_yaml(telling[0])}}}"
    pair = [name for name in telling if "." in name]
    if len(pair) == 2:
        return f"columns: {{prompt: {pair[0]}, completion: {pair[1]}}}, or the other way round"
    answers = [name for name in telling if bare(name) in COMPLETIONS] or [
        name for name in telling if words_of(name) & ANSWERING and bare(name) not in PROMPTS
    ]
    known = [name for name in said if bare(name) in PROMPTS and name not in answers]
    asked = (
        known[:1] or [name for name in telling if name not in answers[:1]] or [n for n in said if n not in answers[:1]]
    )
    if answers and known:
        asked = [*(name for name in telling if words_of(name) & ASKED and name not in (*known, *answers)), *asked]
    if answers and len(asked) > 1 and len(asked) <= MOST_JOINED:
        joined = "\\n\\n".join(f"{{{name}}}" for name in asked)
        return f'columns: {{completion: {_in_yaml(answers[0])}}} and promptTemplate: "{joined}"'
    if answers and asked:
        longest = max(asked, key=lambda name: len(record[name]))
        return f"columns: {{prompt: {_in_yaml(longest)}, completion: {_in_yaml(answers[0])}}}"
    if len(telling) == 2 and plain:
        prompt, completion = (known[0], *(n for n in telling if n != known[0])) if known else telling
        return f"columns: {{prompt: {_in_yaml(prompt)}, completion: {_in_yaml(completion)}}}"
    return ""


def _answer_inside(record: Record) -> str:
    """Suggest the first of several answers to a question, such as `answers.0.text`."""
    question = next((name for name, value in record.items() if bare(name) in PROMPTS and isinstance(value, str)), "")
    if not question:
        return ""
    for name, value in record.items():
        first = value[0] if isinstance(value, list) and value and words_of(name) & ANSWERING else None
        if not isinstance(first, dict):
            continue
        keys = [key for key in CONTENT_KEYS if isinstance(first.get(key), str)]
        if keys and not any(key in ROLE_KEYS and str(first[key]).lower() in ROLES for key in first):
            path = f"{name}.0.{keys[0]}"
            return f"columns: {{prompt: {_in_yaml(question)}, completion: {path}}}, which learns the first answer of each question"
    return ""


def _of_turns(record: Record, turns: str) -> str:
    """Turns in which nobody answers are the question of an answer beside them (`ideal`)."""
    beside = [name for name in _telling(record) if name != turns and words_of(name) & ANSWERING]
    asked: Any = record[turns]
    if len(beside) == 1 and isinstance(asked, list) and not any(map(_answers, asked)):
        return f"columns: {{prompt: {turns}, completion: {_in_yaml(beside[0])}}}"
    return f"columns: {{messages: {turns}}}"


def _answers(turn: Record) -> bool:
    return any(
        isinstance(turn.get(key), str) and ROLES.get(turn[key].strip().lower()) == ASSISTANT for key in ROLE_KEYS
    )


def _in_yaml(name: str) -> str:
    return name if PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _telling(record: Record) -> list[str]:
    return [name for name, value in record.items() if _is_told(value) and not words_of(name) & INCIDENTAL]


def _is_told(value: Any) -> bool:
    """A text, or the body of a logged API call."""
    if isinstance(value, dict):
        return any(isinstance(value.get(key), list) for key in ("messages", "choices"))
    return isinstance(value, str) and bool(value.strip())


def is_turns(value: Any) -> bool:
    """A conversation in which somebody answers; a list of comments or annotations is none."""
    if isinstance(value, str):
        return written_out(value) is not None
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        return False
    words = {item.get(key) for item in value for key in ROLE_KEYS if isinstance(item.get(key), str)}
    return bool(words) and any(ROLES.get(word.strip().lower()) != USER for word in words if isinstance(word, str))


def exist(record: Record) -> str:
    """Return the columns that are there, for a sentence."""
    return ", ".join(map(str, record)) or "none"
