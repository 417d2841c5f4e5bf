"""A conversation, the forms in which templates want its tool calls, and what a template left out of it."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

Message = dict[str, Any]
Tools = Sequence[Any] | None

REASONING = ("reasoning_content", "reasoning", "thinking")
"""Keys under which data sets keep what was thought before an answer."""


THOUGHT_ENDS = "</think>"
THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)


TOOL_TEMPLATE = "use a model whose chat template writes tools, or set chat.templateSource to a template that does"
"""What helps where a template knows no tools."""

SYSTEM_INTO_QUESTION = "put the system text in front of the first question"
"""What helps where a template knows no system role (Gemma), or forgets it (Mistral)."""


class RowRefused(Exception):
    """This row cannot be written with the template; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages and the tools they may call."""

    messages: Sequence[Message]
    tools: Tools = None
    first_learned: int = 0
    """Answers before this message are context only (the messages of a prompt)."""
    unlearned: Sequence[int] = ()
    """Answers that the data takes out of the loss."""
    added: int = 0
    """Messages before those of the data: a system prompt of its own column, or of the job."""

    def number(self, index: int) -> int:
        """Return the number of a message in the data, counted from 1; 0 for a system prompt that was added."""
        return index + 1 - self.added

    def learned(self, train_on: str) -> list[int]:
        """Return the answers that the loss sees."""
        answers = [index for index, message in enumerate(self.messages) if message["role"] == "assistant"]
        wanted = [index for index in answers if index >= self.first_learned]
        return [index for index in (wanted[-1:] if train_on == "last" else wanted) if index not in self.unlearned]

    @property
    def uses_tools(self) -> bool:
        """It calls tools, or could."""
        return bool(self.tools) or any(message.get("tool_calls") for message in self.messages)


def tools_held(messages: Sequence[Message], tools: Tools) -> str:
    """Name what a conversation holds that only a template for tools can write; empty where it holds nothing of that kind."""
    held = (
        ("tools", bool(tools)),
        ("tool calls", any(message.get("tool_calls") for message in messages)),
        ("messages of role tool", any(message["role"] == "tool" for message in messages)),
    )
    names = [name for name, there in held if there]
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def forms(conversation: Conversation) -> Iterator[Conversation]:
    """Yield the conversation as it is, then as some templates want it.

    Reasoning has several names, and some templates want tool calls without content, or with arguments as text.
    """
    yield conversation
    if any(name in message for message in conversation.messages for name in REASONING):
        for name in REASONING:
            yield replace(conversation, messages=[_thinking(message, name) for message in conversation.messages])
    if any(message.get("tool_calls") for message in conversation.messages):
        for as_text, with_content in ((False, False), (True, True), (True, False)):
            changed = [_formed(message, as_text, with_content) for message in conversation.messages]
            yield replace(conversation, messages=changed)


def _thinking(message: Message, name: str) -> Message:
    thoughts = list(_thoughts(message))
    rest = {key: value for key, value in message.items() if key not in REASONING}
    return {**rest, name: thoughts[0]} if thoughts else message


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
        return f"the chat template does not render its tools: {TOOL_TEMPLATE}, or remove the column if calls are not to be learned"
    for index, message in enumerate(conversation.messages):
        number = conversation.number(index)
        if missing := calls_left_out(message, text, number):
            return missing
        if not all(_holds(text, part) for part in said_parts(message, learned=index in learned)):
            return lost(number, message["role"])
    for index in learned:
        message = conversation.messages[index]
        if not all(_holds(text, thought) for thought in (*_thoughts(message), *_tagged(message))):
            other = "set chat.template: chatml" if _tagged(message) else "put it into the content"
            return (
                f"the chat template leaves out the reasoning of message {conversation.number(index)}, so the answer would be learned "
                f"without it: use chat.trainOn: last if it belongs to an earlier answer; otherwise remove it or {other}"
            )
    return ""


def is_abridged(conversation: Conversation, text: str, learned: Sequence[int]) -> bool:
    """Tell whether the template leaves out the reasoning of answers that are context, or their words beside tool calls.

    Servers leave them out of earlier answers in the same way, so it is no fault, but nobody should have to guess it.
    """
    context = [
        message
        for index, message in enumerate(conversation.messages)
        if message["role"] == "assistant" and index not in learned
    ]
    return not all(
        _holds(text, part)
        for message in context
        for part in (*_thoughts(message), *_tagged(message), (message["content"] or "").rsplit(THOUGHT_ENDS, 1)[-1])
    )


def lost(number: int, role: str) -> str:
    """Say that a template does not write what somebody says."""
    if not number:
        return f"the chat template leaves out the system prompt: {SYSTEM_INTO_QUESTION}, or set chat.template: chatml"
    if (number, role) == (1, "system"):
        return f"the chat template leaves out what message 1 (system) says: {SYSTEM_INTO_QUESTION}, or set chat.template: chatml"
    if role == "assistant":
        return (
            f"the chat template leaves out what message {number} (assistant) says: remove the words beside its tool calls, or "
            "use chat.trainOn: last if it is an earlier answer"
        )
    others = TOOL_TEMPLATE if role == "tool" else "use a model whose template knows that role"
    remedy = "use chat.template chatml" if role in ("system", "user") else others
    return f"the chat template leaves out what message {number} ({role}) says: {remedy}, or remove the message"


def said_parts(message: Message, *, learned: bool) -> list[str]:
    """Return the texts of a message that must stand in the prompt.

    Of an answer it is what follows its reasoning, which many templates leave out of earlier answers, as servers do. What an
    earlier answer says beside its tool calls some take for reasoning too.
    """
    content = message["content"] or ""
    if message["role"] != "assistant":
        return [content]
    return [] if message.get("tool_calls") and not learned else [content.rsplit(THOUGHT_ENDS, 1)[-1]]


def calls_left_out(message: Message, text: str, number: int) -> str:
    """Say that a text lacks the tool calls of a message, and what to do; empty where they are there."""
    if all(str(call["function"]["name"]) in text for call in message.get("tool_calls") or ()):
        return ""
    return f"the chat template does not render the tool calls of message {number}: {TOOL_TEMPLATE}"


def _name(tool: Any) -> str:
    described = tool.get("function", tool) if isinstance(tool, dict) else {}
    return str(described.get("name", "")) if isinstance(described, dict) else ""


def _thoughts(message: Message) -> Iterator[str]:
    return (message[key] for key in REASONING if isinstance(message.get(key), str))


def _tagged(message: Message) -> list[str]:
    """Return the reasoning that stands in the content of an answer."""
    return THOUGHT.findall(message["content"] or "")


def _holds(text: str, part: str) -> bool:
    """Tell whether a text holds another, whatever was done to the white space, or as JSON (the results of tools)."""
    return (
        part.strip() in text
        or " ".join(part.split()) in " ".join(text.split())
        or any(json.dumps(part, ensure_ascii=ascii_only)[1:-1] in text for ascii_only in (False, True))
    )
