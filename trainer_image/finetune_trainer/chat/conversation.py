"""A conversation, the forms in which templates want its tool calls, and what a template left out of it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

Message = dict[str, Any]
Tools = Sequence[Any] | None

REASONING = ("reasoning_content", "reasoning", "thinking")
"""Keys under which data sets keep what was thought before an answer."""


class RowRefused(Exception):
    """This row cannot be written with the template; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages and the tools they may call."""

    messages: Sequence[Message]
    tools: Tools = None
    first_learned: int = 0
    """Answers before this message are context only (the messages of a prompt)."""

    @property
    def uses_tools(self) -> bool:
        """It calls tools, or could."""
        return bool(self.tools) or any(message.get("tool_calls") for message in self.messages)


def forms(conversation: Conversation) -> Iterator[Conversation]:
    """Yield the conversation as it is, then as some templates want tool calls: without content, with arguments as text."""
    yield conversation
    if any(message.get("tool_calls") for message in conversation.messages):
        for as_text, with_content in ((False, False), (True, True), (True, False)):
            changed = [_formed(message, as_text, with_content) for message in conversation.messages]
            yield replace(conversation, messages=changed)


def _formed(message: Message, as_text: bool, with_content: bool) -> Message:
    if not message.get("tool_calls"):
        return message
    content = message["content"] if with_content or message["content"] else None
    if not as_text:
        return {**message, "content": content}
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "content": content, "tool_calls": calls}


def left_out(conversation: Conversation, text: str, learned: Sequence[int]) -> str:
    """Say what the template left out of what it was given, and what to do; empty where all is there.

    Templates drop what they do not know without a word: tools, a role, the reasoning of earlier answers.
    """
    if any(name not in text for name in map(_name, conversation.tools or ())):
        return "the chat template does not write its tools: use a model whose template does, or remove the column"
    for number, message in enumerate(conversation.messages, start=1):
        if missing := calls_left_out(message, text, number):
            return missing
        if message["role"] in ("system", "user") and not _holds(text, message["content"]):
            return (
                f"the chat template leaves out what message {number} ({message['role']}) says: use chat.template chatml"
            )
    for index in learned:
        thought = next((message for message in _thoughts(conversation.messages[index])), "")
        if not _holds(text, thought):
            return (
                f"the chat template leaves out the reasoning of message {index + 1}, so its answer would be learned without: "
                "use chat.trainOn: last where it is an earlier answer's, else remove it or put it into the content"
            )
    return ""


def calls_left_out(message: Message, text: str, number: int) -> str:
    """Say that a text lacks the tool calls of a message, and what to do; empty where they are there."""
    if all(str(call["function"]["name"]) in text for call in message.get("tool_calls") or ()):
        return ""
    return f"the chat template does not write the tool calls of message {number}: use a model whose template does"


def _name(tool: Any) -> str:
    described = tool.get("function", tool) if isinstance(tool, dict) else {}
    return str(described.get("name", "")) if isinstance(described, dict) else ""


def _thoughts(message: Message) -> Iterator[str]:
    return (message[key] for key in REASONING if isinstance(message.get(key), str))


def _holds(text: str, part: str) -> bool:
    """Tell whether a text holds another, whatever was done to the white space."""
    return part.strip() in text or " ".join(part.split()) in " ".join(text.split())
