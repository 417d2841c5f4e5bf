"""What to tell somebody whose columns are not those that a format needs, or hold what sft should not learn."""

from collections.abc import Sequence
from typing import Any

from finetune_trainer.data.formats.names import ASKED, COMPLETIONS, INCIDENTAL, PROMPTS, bare, words_of
from finetune_trainer.data.reading.record import Record

NEEDED = "a column with messages, or a prompt and a completion, or text"


def unpaired(record: Record, label: str, uri: str) -> str:
    """Say that the answers are good ones and bad ones."""
    return (
        f"{uri} looks like unpaired preference data (columns {_exist(record)}): sft would learn the bad answers too; keep the "
        f"rows whose {label} is true, or set format: prompt-completion to learn all of them"
    )


def preference(record: Record, good: str, bad: str, prompt: str, uri: str) -> str:
    """Say how to learn the better answers."""
    value: Any = record.get(good)
    if _is_turns(value) and (
        not prompt or any(turn.get("role", turn.get("from")) in ("user", "human") for turn in value)
    ):
        columns = f"{{messages: {good}}}"
    elif prompt:
        columns = f"{{prompt: {prompt}, completion: {good}}}"
    else:
        columns = f"{{text: {good}}}"
    return (
        f"{uri} looks like preference data (columns {_exist(record)}): sft learns one answer. To learn those in {good} and not "
        f"those in {bad}, set columns: {columns}"
    )


def undecided(record: Record, one: str, other: str, uri: str) -> str:
    """Say that of two answers the better one must be chosen first."""
    return (
        f"{uri} looks like preference data (columns {_exist(record)}): sft learns one answer. Write the better one of {one} and "
        f"{other} into a column completion, or set columns.completion to the one to learn"
    )


def several_answers(record: Record, column: str, uri: str) -> str:
    """Say that the rows hold many answers, such as UltraFeedback before it was turned into pairs."""
    return (
        f"{uri} holds several answers to each question in {column} (columns {_exist(record)}): write the one to learn into a "
        "column completion"
    )


def one_message_a_row(uri: str, text: str) -> str:
    """Say that conversations are cut into rows, as OASST's are."""
    return (
        f"{uri} holds one message in each row (columns such as role and text), so no row has a question with its answer: join the "
        "messages of a conversation into one row with a column messages, following parent_id where there is one, or set "
        f"columns: {{text: {text}}} to learn each message as plain text"
    )


def placeholders(unknown: Sequence[str], record: Record, uri: str) -> str:
    """Say which placeholders of a prompt template name no column."""
    named = ", ".join(f"{{{name}}}" for name in unknown)
    return f"{uri} has no column for {named} in promptTemplate: its columns are {_exist(record)}"


def missing(record: Record, uri: str) -> str:
    """Say which columns exist, which are needed, and how to name them."""
    mapping = _mapping(record)
    remedy = f"name them in datasets[].columns, such as columns: {mapping}"
    if not mapping:
        remedy = "none of them holds the answer as text, so write it into a column completion"
    return f"{uri} has the columns {_exist(record)}, but {NEEDED} is needed: {remedy}"


def _mapping(record: Record) -> str:
    turns = next((name for name, value in record.items() if _is_turns(value)), "")
    if turns:
        return f"{{messages: {turns}}}"
    said = [name for name, value in record.items() if isinstance(value, str) and value.strip()]
    completion = next((name for name in said if bare(name) in COMPLETIONS), "")
    prompt = next((name for name in said if bare(name) in PROMPTS and name != completion), "")
    others = [name for name in said if name not in (prompt, completion) and not words_of(name) & (ASKED | INCIDENTAL)]
    if not prompt and others:
        prompt = others.pop(0)
    if not completion and others:
        completion = others.pop(0)
    if prompt and completion:
        return f"{{prompt: {prompt}, completion: {completion}}}"
    return f"{{text: {said[0]}}}" if len(said) == 1 else ""


def _is_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _exist(record: Record) -> str:
    return ", ".join(map(str, record)) or "none"
