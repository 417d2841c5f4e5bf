"""Roles that a template does not know are written as those that it does. What it drops all the same is found by a probe."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from finetune_trainer.chat.conversation import Conversation, Message, RowRefused, lost

TOOL_ROLES = ("tool", "ipython", "function")
PROBE = "zq{}qz"
"""A word that no template writes by itself."""

REMEMBERED = 4096
"""Sequences of roles of which the result is kept."""


class Roles:
    """Knows the roles that one template writes."""

    def __init__(self, template: str) -> None:
        self._developer = _names(template, "developer")
        self._tool = next((role for role in TOOL_ROLES if _names(template, role)), "tool")
        self._probed: dict[Any, str] = {}

    def known(self, conversation: Conversation) -> Conversation:
        """Return the conversation with a developer as system and tool results under the template's own name for them."""
        messages = conversation.messages
        if not any(message["role"] in ("developer", *TOOL_ROLES) for message in messages):
            return conversation
        changed: list[Message] = []
        new_place: dict[int, int] = {}
        for index, message in enumerate(messages):
            adapted = {**message, "role": self._role(message["role"])}
            follows = bool(changed) and changed[-1]["role"] == "system"
            if follows and message["role"] == "developer" and adapted["role"] == "system":
                changed[-1] = {**changed[-1], "content": f"{changed[-1]['content']}\n\n{message['content']}"}
            else:
                changed.append(adapted)
            new_place[index] = len(changed) - 1
        return replace(
            conversation,
            messages=changed,
            first_learned=new_place.get(conversation.first_learned, conversation.first_learned),
            unlearned=[new_place[index] for index in conversation.unlearned],
        )

    def _role(self, role: str) -> str:
        if role == "developer":
            return "developer" if self._developer else "system"
        return self._tool if role in TOOL_ROLES else role

    def dropped(self, conversation: Conversation, write: Callable[[Sequence[Message]], str]) -> str:
        """Say which message the template drops, whatever it says; empty where it writes all.

        A short text may stand in the prompt by chance, so each sequence of roles is written once with words that cannot.
        """
        shape = (bool(conversation.tools), conversation.added, *map(_shape, conversation.messages))
        if shape not in self._probed:
            if len(self._probed) >= REMEMBERED:
                self._probed.clear()
            self._probed[shape] = _lost(conversation, write)
        return self._probed[shape]


def _names(template: str, role: str) -> bool:
    return bool(re.search(rf"""["']{role}["']""", template))


def _shape(message: Message) -> tuple[str, bool, bool]:
    return message["role"], bool(message.get("tool_calls")), bool((message["content"] or "").strip())


def _lost(conversation: Conversation, write: Callable[[Sequence[Message]], str]) -> str:
    probes = [
        {**message, "content": PROBE.format(number)} if (message["content"] or "").strip() else message
        for number, message in enumerate(conversation.messages)
    ]
    try:
        text = write(probes)
    except RowRefused:
        return ""  # the words themselves will say what the template refuses
    for number, message in enumerate(probes):
        if not message.get("tool_calls") and (message["content"] or "").strip() and message["content"] not in text:
            return lost(conversation.number(number), message["role"])
    return ""
