"""What to tell somebody whose columns are not those that the format needs, or hold something that would not be read."""

from typing import Any

from finetune_trainer.data.records import Record

PREFERENCE = ("chosen", "rejected")
LABEL = "label"
"""Beside prompt and completion a truth value says whether the answer is a good one (unpaired preference)."""

ALPACA = ("instruction", "output")
BESIDE_A_PROMPT = ("input", "context")
"""Columns of well-known data sets that are part of the question."""


def unread(kind: str, prompt: str, completion: str, text: str, record: Record, uri: str) -> str:
    """Return a warning where a column that most likely matters is not read; else nothing."""
    if kind == "text" and LABEL in record:
        return (
            f"{uri} has a column {LABEL} that is not read, only {text} is learned: to teach the label, set "
            f"columns: {{prompt: {text}, completion: {LABEL}}}"
        )
    beside = next((name for name in BESIDE_A_PROMPT if name in record and name not in (prompt, completion)), "")
    if kind == "prompt-completion" and beside:
        return (
            f"{uri} has a column {beside} that is not read, only {prompt} and {completion} are: if it is part of the question, "
            f"join it to {prompt} in the data"
        )
    return ""


def unpaired(record: Record, uri: str) -> str:
    """Say that the answers are good ones and bad ones."""
    return (
        f"{uri} looks like unpaired preference data (columns {_exist(record)}): sft would learn the bad answers too; keep the "
        "rows whose label is true, or set format: prompt-completion to learn all of them"
    )


def missing(kinds: dict[str, tuple[str, ...]], record: Record, uri: str) -> str:
    """Say which columns exist, which are needed, and how to name them."""
    if all(column in record for column in PREFERENCE):
        return (
            f"{uri} looks like preference data (columns {_exist(record)}): sft takes messages or prompt and completion"
        )
    wanted = " or ".join(" and ".join(columns) for columns in kinds.values())
    return (
        f"{uri} has the columns {_exist(record)}, but {wanted} is needed: name them in spec.datasets[].columns, such as "
        f"columns: {_mapping(record)}"
    )


def _mapping(record: Record) -> str:
    if all(column in record for column in ALPACA):
        joined = " (and join input to instruction in the data)" if "input" in record else ""
        return f"{{prompt: instruction, completion: output}}{joined}"
    turns = next((name for name, value in record.items() if _is_turns(value)), "")
    return f"{{messages: {turns}}}" if turns else "{prompt: question, completion: answer}"


def _is_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _exist(record: Record) -> str:
    return ", ".join(map(str, record)) or "none"
