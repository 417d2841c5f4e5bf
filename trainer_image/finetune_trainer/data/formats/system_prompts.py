"""The system prompt of a row: that of its messages, of a column beside them, or of the job. Called by rows."""

import re
from collections.abc import Sequence
from typing import Any

from finetune_trainer.chat.conversation import Message
from finetune_trainer.data.formats.detect import Format
from finetune_trainer.data.formats.invalid import RowInvalid
from finetune_trainer.data.formats.names import is_empty
from finetune_trainer.data.formats.parts import parts_of
from finetune_trainer.data.reading.record import Record, kind

SYSTEM_MARK = re.compile(r"\A\s*SYSTEM:\s*")
"""How the system prompt beside a conversation that is written out begins (Glaive)."""


def with_system(messages: Sequence[Message], form: Format, system: str) -> list[Message]:
    """Put the system prompt before messages that have none. Raises RowInvalid where there are two."""
    if messages and messages[0]["role"] in ("system", "developer"):
        if system and system.strip() not in messages[0]["content"]:
            raise RowInvalid(
                f"it has a system prompt in {form.system or 'system'} and another in its messages: remove one of them"
            )
        return list(messages)
    system = system or form.system_prompt
    return [{"role": "system", "content": system}, *messages] if system else list(messages)


def own_system(record: Record, form: Format) -> str:
    """Return what stands beside the conversation; empty where nothing does. Raises RowInvalid."""
    said = said_by_system(record.get(form.system))
    return SYSTEM_MARK.sub("", said) if isinstance(record.get(form.messages), str) else said


def said_by_system(value: Any) -> str:
    """A text, parts of text (Anthropic, Bedrock), or Gemini's object with parts. Raises RowInvalid."""
    if isinstance(value, dict):
        value = value.get("parts", value.get("content", [value]))
    if isinstance(value, list):
        return parts_of(value, "its system prompt").text if value else ""
    if is_empty(value):
        return ""
    if not isinstance(value, str):
        raise RowInvalid(f"its system prompt is {kind(value)}, not text")
    return value
