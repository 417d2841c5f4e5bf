"""What to tell somebody whose rows say which of several answers is the better one: sft learns one."""

from typing import Any

from finetune_trainer.data.formats.advice import exist
from finetune_trainer.data.formats.leaves import is_turns
from finetune_trainer.data.formats.names import ROLE_KEYS, ROLES, TURN_MARKS, USER
from finetune_trainer.data.formats.transcripts import written_out
from finetune_trainer.data.reading.record import Record


def unpaired(record: Record, label: str, form: str, uri: str, bad: int, rows: int) -> str:
    """Say that the answers are good ones and bad ones; `rows` is 0 where they were not counted."""
    if rows and not bad:
        return (
            f"{uri} looks like unpaired preference data (columns {exist(record)}) of good answers only, for no row has {label} false: "
            f"remove that column, or set format: {form}"
        )
    counted = f"{bad:,} of {rows:,} rows have {label} false, and " if rows else ""
    return (
        f"{uri} looks like unpaired preference data (columns {exist(record)}): {counted}sft would learn the bad answers too; keep the "
        f"rows whose {label} is true and remove that column, or set format: {form} to learn all of them"
    )


def judged(record: Record, uri: str) -> str:
    """Say that Prodigy keeps what annotators rejected beside what they accepted."""
    return (
        f"{uri} is an export of Prodigy (columns {exist(record)}): its column answer says accept, reject or ignore. Keep the rows "
        "with accept, and remove that column"
    )


def preference(record: Record, good: str, bad: str, prompt: str, uri: str) -> str:
    """Say how to learn the better answers."""
    value: Any = record.get(good)
    if isinstance(value, str) and written_out(value):
        return (
            f"{uri} looks like preference data (columns {exist(record)}): sft learns one answer. To learn those in {good} and not "
            f"those in {bad}, set columns: {{messages: {good}}}, which splits its conversations into turns"
        )
    if (turns := _written_turns(value)) > 1:
        return (
            f"{uri} looks like preference data (columns {exist(record)}): sft learns one answer. Besides, {good} holds a "
            f"conversation written out as text ({turns} turns in the first row): write each as a list of objects with role and "
            "content into a column messages, and set columns: {messages: messages}"
        )
    if is_turns(value) and (not prompt or any(_asks(turn) for turn in value)):
        columns = f"{{messages: {good}}}"
    elif prompt:
        columns = f"{{prompt: {prompt}, completion: {good}}}"
    else:
        columns = f"{{text: {good}}}"
    return (
        f"{uri} looks like preference data (columns {exist(record)}): sft learns one answer. To learn those in {good} and not "
        f"those in {bad}, set columns: {columns}"
    )


def _written_turns(value: Any) -> int:
    return sum(f"\n{value}".count(mark) for mark in TURN_MARKS) if isinstance(value, str) else 0


def _asks(turn: Record) -> bool:
    return any(isinstance(turn.get(key), str) and ROLES.get(turn[key].strip().lower()) == USER for key in ROLE_KEYS)


def undecided(record: Record, one: str, other: str, uri: str) -> str:
    """Say that of two answers the better one must be chosen first."""
    role = "messages" if is_turns(record[one]) else "completion"
    return (
        f"{uri} looks like preference data (columns {exist(record)}): sft learns one answer. Write the better one of {one} and "
        f"{other} into a column {role}, or set columns.{role} to the one to learn"
    )
