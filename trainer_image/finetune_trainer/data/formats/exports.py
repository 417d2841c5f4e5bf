"""Exports of programs whose conversations are no list of turns: what each is, and how to make messages of it. Called by advice."""

from collections.abc import Callable
from typing import Any

from finetune_trainer.data.reading.record import Record

AS_MESSAGES = "into a column messages"


def export_of(record: Record) -> str:
    """Say which program wrote a record, and what to do; empty where none that is known did."""
    return next((told for is_from, told in EXPORTS if is_from(record)), "")


def _from_chatgpt(record: Record) -> bool:
    return isinstance(record.get("mapping"), dict) and "current_node" in record


def _from_intercom(record: Record) -> bool:
    return isinstance(record.get("conversation_parts"), dict | list) and isinstance(record.get("source"), dict)


def _from_a_help_desk(record: Record) -> bool:
    """Zendesk, Freshdesk and Jira Service Management keep a ticket with its comments."""
    comments: list[Any] = next(
        (record[key] for key in ("comments", "conversations") if isinstance(record.get(key), list)), []
    )
    written = [
        comment
        for comment in comments
        if isinstance(comment, dict) and ("author_id" in comment or "user_id" in comment)
    ]
    return bool(written) and any(key in record for key in ("subject", "description"))


def _from_axolotl(record: Record) -> bool:
    segments = record.get("segments")
    return (
        isinstance(segments, list)
        and bool(segments)
        and all(isinstance(one, dict) and "label" in one for one in segments)
    )


EXPORTS: tuple[tuple[Callable[[Record], bool], str], ...] = (
    (_from_chatgpt,
     "ChatGPT: each conversation is a tree in mapping. Follow parent from current_node to the root, and write the role (author.role) "
     f"and text (content.parts) of each message {AS_MESSAGES}"),
    (_from_axolotl,
     "axolotl's input_output form: each segment has a label that says whether it is learned. Write the texts with label false before "
     "an answer into a column prompt and those with label true into a column completion, or write the turns into a column messages, "
     "with weight: 0 at answers that are not learned. Take rendered marks and ends of turns (such as USER:, ASSISTANT: and </s>) out "
     "of the texts, because the chat template writes its own"),
    (_from_intercom,
     "Intercom: the question is source.body, and the answers are the parts in conversation_parts. Write them, without HTML, "
     f"{AS_MESSAGES}: role assistant where author.type is admin or bot, else user"),
    (_from_a_help_desk,
     "a help desk: each row is a ticket with its comments. Write the description and each public comment "
     f"{AS_MESSAGES}: role user where the requester wrote it, else assistant"),
)  # fmt: skip
