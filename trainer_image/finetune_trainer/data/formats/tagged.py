"""Tools and their results that a data set has written into the texts already, as Hermes does. Called by rows."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from finetune_trainer.chat.conversation import Message
from finetune_trainer.data.formats.calls import tools_of
from finetune_trainer.data.formats.invalid import RowInvalid
from finetune_trainer.data.formats.names import TOOL

OPEN, CLOSE = "<tool_response>", "</tool_response>"
TOOLS = re.compile(r"<tools>\s*([\[{].*?)\s*</tools>", re.DOTALL)


def without_tags(messages: Sequence[Message], template: str) -> list[Message]:
    """Take the tags off results of tools where the template writes them: of several in one message those between stay."""
    if OPEN not in template:
        return list(messages)
    return [_without_tags(message) if message["role"] == TOOL else message for message in messages]


def _without_tags(message: Message) -> Message:
    said = message["content"].strip()
    if not (said.startswith(OPEN) and said.endswith(CLOSE)):
        return message
    return {**message, "content": said.removeprefix(OPEN).removesuffix(CLOSE).strip()}


def are_told(tools: Sequence[Any] | None, text: str) -> bool:
    """Tell whether a system prompt holds exactly these tools, in <tools> tags or each as JSON."""
    if not tools:
        return False
    if any(told == tools for told in _told(text)):
        return True
    return all(any(written in text for written in _written(tool)) for tool in tools)


def _told(text: str) -> Iterator[list[Any] | None]:
    """Yield what stands in <tools> tags: a list, or an object a line."""
    for found in TOOLS.findall(text):
        for written in (found, f"[{','.join(found.splitlines())}]"):
            try:
                yield tools_of(json.loads(written))
            except (ValueError, RowInvalid):
                continue


def _written(tool: Any) -> Iterator[str]:
    """Yield a tool as JSON in the usual spellings, with and without what says that it is a function."""
    for part in (tool, tool.get("function", tool)):
        yield json.dumps(part, ensure_ascii=False)
        yield json.dumps(part, ensure_ascii=False, separators=(",", ":"))
        yield json.dumps(part, ensure_ascii=False, indent=2)
