"""Turns that name their speakers without keys for it: pairs of name and text, {"user": text}, lines such as `Agent: text`."""

import re
from collections.abc import Mapping
from typing import Any

from finetune_trainer.chat.conversation import Message
from finetune_trainer.data.formats.invalid import RowInvalid
from finetune_trainer.data.formats.names import (
    ASSISTANT,
    COMPLETIONS,
    CONTENT_KEYS,
    PROMPTS,
    ROLE_KEYS,
    ROLES,
    SYSTEM,
    SYSTEMS,
    USER,
    bare,
)

LINE = re.compile(
    r"^(?:\[[^\]\n]{3,30}\] ?|\d[\d/.:, -]{4,20}(?: ?[AaPp][Mm])? - )?(?P<name>[^\W\d_][\w .'-]{0,30}?|#\w+#):[ \t]+",
    re.MULTILINE,
)
"""How a line of a transcript names its speaker, behind a time as WhatsApp writes it or without one."""

LEAST_LINES = 2
LEAST_PAIRS = 3
"""So many pairs that begin with one of two texts are names with what they say, not questions with their answers."""

SPEAKERS = 2
"""So many people talk in a transcript that can be learned: one asks, one answers."""

MOSS = "MOSS"
AS_MESSAGES = "write the texts of Human and MOSS as two messages, with role and content, without marks such as <|Human|>: and <eoh>"


def named_pairs(value: Any, roles: Mapping[str, str]) -> list[dict[str, str]] | None:
    """Return the messages of pairs such as ["user", "hello"]; None where the first of each pair is no name."""
    if not isinstance(value, list) or not value or not all(_is_pair(item) for item in value):
        return None
    names = [name for name, _ in value]
    known = all(name in roles or name.strip().lower() in ROLES for name in names)
    repeated = len(names) >= LEAST_PAIRS and len(set(names)) == SPEAKERS
    return [{"role": name, "content": text} for name, text in value] if known or repeated else None


def _is_pair(item: Any) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2 and all(isinstance(text, str) for text in item)


def pair_in(item: dict[str, Any]) -> list[Message]:
    """A question and its answer in one object (firefly, xtuner), with a system prompt or without."""
    by_name = {bare(key): key for key in item}
    keys = [next((by_name[name] for name in names if name in by_name), "") for names in (SYSTEMS, PROMPTS, COMPLETIONS)]
    texts = [item.get(key) for key in keys]
    if not (isinstance(texts[1], str) and isinstance(texts[2], str)):
        return []
    said = zip((SYSTEM, USER, ASSISTANT), texts, strict=True)
    return [{"role": role, "content": text} for role, text in said if text]


def by_speaker(said: Mapping[str, Any], who: str) -> list[dict[str, Any]]:
    """Return the messages of an object whose keys are the speakers; empty where they are not. Raises RowInvalid."""
    if MOSS in said:
        raise RowInvalid(f"{who} is a turn of MOSS: {AS_MESSAGES}")
    if any(key in said for key in (*ROLE_KEYS, *CONTENT_KEYS)):
        return []
    speakers = [key for key in said if key.strip().lower() in ROLES and isinstance(said[key], str)]
    beside = {key: value for key, value in said.items() if key not in speakers}
    return [{**beside, "role": key, "content": said[key]} for key in speakers]


def spoken_lines(text: str) -> list[dict[str, str]]:
    """Return the messages of a transcript in which two people talk; empty where a text is none."""
    marks = list(LINE.finditer(text.strip()))
    if len(marks) < LEAST_LINES or marks[0].start() or len({mark["name"] for mark in marks}) != SPEAKERS:
        return []
    ends = [*(mark.start() for mark in marks[1:]), None]
    return [
        {"role": mark["name"], "content": text.strip()[mark.end() : end].strip()}
        for mark, end in zip(marks, ends, strict=True)
    ]
