"""Turns that are kept as texts: messages as JSON in the cell of a table, and lists of what was said by turns."""

import re
from typing import Any

from finetune_trainer.chat.conversation import Message
from finetune_trainer.data.formats.invalid import RowInvalid, parsed
from finetune_trainer.data.formats.names import ASSISTANT, CALL, ROLE_KEYS, ROLES, USER

TURNS_AS_TEXT = re.compile(r"""\s*(\[\s*)?\{\s*(?P<quote>["'])(role|content|from|value|messages)["']\s*:""")
"""How the JSON (or Python's notation) of one or several messages begins."""

SPOKEN = re.compile(rf"\s*({'|'.join(map(re.escape, ROLES))})\s*[:\uff1a]", re.IGNORECASE)
"""A text that says itself who speaks."""


def is_alternating(value: list[Any]) -> bool:
    """Tell whether a list holds texts by turns, a question and its answer, or pairs of them."""
    return bool(value) and (all(isinstance(item, str) for item in value) or all(_is_text_pair(item) for item in value))


def lacks_roles(value: list[Any]) -> bool:
    """Tell a list of texts of which nothing says who speaks: by turns, or questions only as in MT-bench."""
    return all(isinstance(item, str) and not SPOKEN.match(item) for item in value)


def _is_text_pair(item: Any) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2 and all(isinstance(text, str) for text in item)


def alternating(value: list[Any]) -> list[Message]:
    """Return the messages of texts by turns. Raises RowInvalid where only some say themselves who speaks."""
    texts = [text for item in value for text in ([item] if isinstance(item, str) else item)]
    spoken = [SPOKEN.match(text) for text in texts]
    roles = [ROLES[found[1].lower()] for found in spoken if found]
    if roles and (len(roles) < len(texts) or CALL in roles):
        raise RowInvalid(
            "its messages are texts of which some begin with who speaks (such as User:): write each as an object with role and content"
        )
    if roles:
        return [
            {"role": role, "content": text[found.end() :].strip()}
            for role, text, found in zip(roles, texts, spoken, strict=True)
            if found
        ]
    return [{"role": (USER, ASSISTANT)[number % 2], "content": text} for number, text in enumerate(texts)]


def from_text(value: Any) -> Any:
    """Return the turns that a table holds as JSON text; anything else as it is. Raises RowInvalid for Python's notation."""
    begins = TURNS_AS_TEXT.match(value) if isinstance(value, str) else None
    if not begins:
        return value
    try:
        turns = parsed(value, "its messages")
    except RowInvalid:
        if begins["quote"] == "'":
            raise
        return value  # it only begins like JSON
    inner = turns.get("messages", [turns]) if isinstance(turns, dict) else turns
    return turns if isinstance(inner, list) and all(map(_speaks, inner)) else value


def _speaks(item: Any) -> bool:
    words = [item.get(key) for key in ROLE_KEYS] if isinstance(item, dict) else []
    return any(isinstance(word, str) and word.strip().lower() in ROLES for word in words)
