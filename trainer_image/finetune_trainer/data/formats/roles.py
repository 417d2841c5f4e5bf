"""Who speaks: the words of a data set for roles become ours, or are refused with the mapping that a job can set."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from finetune_trainer.data.formats.invalid import RowInvalid
from finetune_trainer.data.formats.names import (
    ASSISTANT,
    CONTENT_KEYS,
    ROLE_KEYS,
    ROLES,
    USER,
    role_word,
    truth,
    words_of,
)
from finetune_trainer.data.reading.nearest import nearest
from finetune_trainer.data.reading.record import kind

OPPOSITE = {"true": "false", "false": "true", "True": "False", "False": "True", "1": "0", "0": "1"}
"""How a flag says yes and no, each with its other side."""

ANSWERS = frozenset(
    "agent support operator advisor adviser doctor therapist counselor counsellor tutor teacher expert clerk representative rep staff "
    "helper seller wizard outbound".split()
)
ASKS = frozenset("client caller patient visitor guest buyer learner seeker inbound pupil".split())
"""Words of those who answer and of those who ask: enough to suggest a role, not to take one for granted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnForm:
    """How the turns of one data set are spelt, where the tables do not say it."""

    role: str = ""
    """Key of the role."""
    content: str = ""
    """Key of the content."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Their word for a role -> ours."""
    template: str = ""
    """Keys that the chat template names are left to it."""
    by_turns: bool = False
    """The job names the column, so a list of texts in it is a question, its answer, and so on."""


class UnknownRole(Exception):
    """A word for a role that no table knows."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


def misspelt(word: str, form: TurnForm) -> str:
    """Say which word of datasets[].roles is near to one that nobody knows."""
    near = nearest(word, form.roles)
    return f" (the job maps {near!r} instead)" if near else ""


def mapping(turns: list[Any], form: TurnForm) -> str:
    """Suggest a role for every unknown word of a conversation: who speaks first asks, unless a known speaker does.

    Where the words are true and false, the name of their key says who speaks: is_human, from_bot.
    """
    if who := next((ROLES[part] for part in words_of(form.role) if ROLES.get(part) in (USER, ASSISTANT)), ""):
        other = ASSISTANT if who == USER else USER
        flag = next((str(role_word(item.get(form.role))) for item in turns if isinstance(item, dict)), "")
        if flag in OPPOSITE:
            says = {truth(flag): flag, truth(OPPOSITE[flag]): OPPOSITE[flag]}
            return f'{USER}: ["{says[who == USER]}"], {ASSISTANT}: ["{says[other == USER]}"]'
    words: list[str] = []
    known: set[str] = set()
    for item in turns:
        said = item if isinstance(item, dict) else {}
        word = role_word(said.get(form.role or next((key for key in ROLE_KEYS if key in said), "")))
        role = form.roles.get(word, ROLES.get(word.strip().lower())) if isinstance(word, str) else None
        if role:
            known.add(role)
        elif isinstance(word, str) and word not in words:
            words.append(word)
    free = [role for role in (USER, ASSISTANT) if role not in known] or [USER]
    by_role: dict[str, list[str]] = {}
    told = {word: role for word in words if (role := _told_by(word)) in free}
    left = [role for role in free if role not in told.values()] or [USER]
    others = [word for word in words if word not in told]
    spoken = told | {word: left[number] if number < len(left) else USER for number, word in enumerate(others)}
    for word in words:
        by_role.setdefault(spoken[word], []).append(json.dumps(word))
    return ", ".join(
        f"{role}: [{', '.join(said)}]" for role, said in sorted(by_role.items(), key=lambda one: one[0] != USER)
    )


def _told_by(word: str) -> str:
    """Return the role that a word speaks of, such as an agent's, who often speaks first; empty where it says nothing."""
    words = words_of(word)
    return ASSISTANT if words & ANSWERS else USER if words & ASKS else ""


def role_of(word: Any, who: str, form: TurnForm, said: dict[str, Any]) -> str:
    """Return our word for a role. Raises RowInvalid, or UnknownRole for a word that no table has."""
    if isinstance(word, dict):
        word = word.get("role")  # the author of an exported chat
        if word is None:
            raise RowInvalid(
                f"{who} has an object in place of its role: write who speaks as text, such as user or assistant"
            )
    word = role_word(word)
    if isinstance(word, str):
        if word in form.roles:
            return form.roles[word]
        if word.strip().lower() in ROLES:
            return ROLES[word.strip().lower()]
    if word is None:
        raise RowInvalid(
            f"{who} has no role (its keys: {', '.join(map(str, said)) or 'none'}): {_with_role(said, form)}"
        )
    if not isinstance(word, str):
        raise RowInvalid(f"{who} has a role that is {kind(word)}, not text")
    raise UnknownRole(word)


def _with_role(said: dict[str, Any], form: TurnForm) -> str:
    """Say how to give a message its role: by a key that says who speaks, such as is_human, or by a new one."""
    others = [key for key in map(str, said) if key not in CONTENT_KEYS]
    if not others:
        return "write who speaks into each message, as role: user or role: assistant"
    for key in others:
        if str(role_word(said[key])) in OPPOSITE and any(
            ROLES.get(word) in (USER, ASSISTANT) for word in words_of(key)
        ):
            mapped = mapping([said], replace(form, role=key))
            return f"{key} says who speaks, so set columns: {{role: {key}}} and roles: {{{mapped}}}"
    return "name the key that holds it in columns.role"
