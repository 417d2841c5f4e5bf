"""Conversations that branch: replies inside of replies (OASST's trees), or messages that name their parents. Refused by name."""

from typing import Any

from finetune_trainer.data.formats.invalid import RowInvalid
from finetune_trainer.data.formats.names import CONTENT_KEYS, ROLE_KEYS, ROLES
from finetune_trainer.data.reading.record import Record

PARENTS = ("parent", "parent_id", "parentId", "parentMessageId", "parent_message_id", "in_reply_to")
IDS = ("id", "message_id", "messageId", "_id", "uuid")
BRANCHES = ("children", "replies", "children_ids")
LINKS = (*PARENTS, *BRANCHES)
"""Keys by which a message names its neighbours."""

LEAST_KEYS = 3
"""A message of a tree has these at least: who, what, and a name of its own."""

PATHS = "write each path from the first message to a last reply as a row with a column messages"


def tree_refusal(record: Record, uri: str) -> str:
    """Say that a column holds a tree, and how to learn the first reply; empty where none does."""
    for name, value in record.items():
        text = _text_of(value)
        key, replies = _replies(value) if text else ("", [])
        if not replies:
            continue
        answer = f"{name}.{key}.0.{_text_of(replies[0])}"
        return (
            f"{uri} holds trees of messages, {key} inside of {key} (column {name}): {PATHS}, or set columns: {{prompt: {name}.{text}, "
            f"completion: {answer}}} to learn the first reply to each first message"
        )
    return ""


def _replies(message: dict[str, Any]) -> tuple[str, list[Any]]:
    for key in BRANCHES:
        replies = message.get(key)
        if isinstance(replies, list) and replies and _text_of(replies[0]) and _speaks(replies[0]):
            return key, replies
    return "", []


def _text_of(message: Any) -> str:
    """Return the key that holds the text of a message; empty where it is no message."""
    held = message if isinstance(message, dict) else {}
    return next((key for key in CONTENT_KEYS if isinstance(held.get(key), str)), "")


def _speaks(message: dict[str, Any]) -> bool:
    return any(str(message.get(key)).strip().lower() in ROLES for key in ROLE_KEYS)


def refuse_branches(messages: list[Any]) -> None:
    """Raise RowInvalid where two messages of a list answer the same one: they are not said after each other."""
    if not isinstance(messages[0], dict) or len(messages[0]) < LEAST_KEYS:
        return
    ids = {str(message[key]) for message in messages if isinstance(message, dict) for key in IDS if message.get(key)}
    first: dict[str, int] = {}
    for number, message in enumerate(messages, start=1):
        parent = (
            next((message[key] for key in PARENTS if message.get(key)), None) if isinstance(message, dict) else None
        )
        if not isinstance(parent, str | int) or str(parent) not in ids:
            continue
        if (before := first.setdefault(str(parent), number)) != number:
            raise RowInvalid(
                f"messages {before} and {number} answer the same message, so they are branches of a tree: {PATHS}"
            )
