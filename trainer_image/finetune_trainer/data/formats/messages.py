"""A list of turns, in whatever form an API or data set keeps it, becomes messages with one spelling of everything."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from finetune_trainer.chat.conversation import Message
from finetune_trainer.data.formats.calls import calls_of
from finetune_trainer.data.formats.invalid import RowInvalid, WithoutRoles, parsed, raise_all
from finetune_trainer.data.formats.names import (
    ASSISTANT,
    CALL,
    CONTENT_KEYS,
    DEVELOPER,
    LOSS_SWITCHES,
    MESSAGE_KEYS,
    PARTIAL_SWITCHES,
    REASONING,
    ROLE_KEYS,
    ROLES,
    SYSTEM,
    TOOL,
    USER,
    is_empty,
    is_harmless,
    role_word,
    truth,
)
from finetune_trainer.data.formats.numbered import numbered_values
from finetune_trainer.data.formats.parts import DETAILS, Parts, detailed_thoughts, is_parts, parts_of
from finetune_trainer.data.formats.roles import TurnForm, UnknownRole, mapping, misspelt, role_of
from finetune_trainer.data.formats.spoken import by_speaker, named_pairs, pair_in, spoken_lines
from finetune_trainer.data.formats.texts import alternating, is_alternating, lacks_roles
from finetune_trainer.data.formats.transcripts import written_out
from finetune_trainer.data.formats.trees import LINKS, refuse_branches
from finetune_trainer.data.reading.nearest import did_you_mean, nearest
from finetune_trainer.data.reading.record import kind

TYPE = "type"
"""Where LangChain keeps who speaks: human, ai."""

AS_TURNS = (
    "write each conversation as a list of objects with role and content, or as turns such as USER: and ASSISTANT: that "
    "alternate"
)

PLAIN_KEYS = {"role", "content"}
PLAIN_ROLES = (SYSTEM, USER, ASSISTANT)
"""Most messages of most data sets have these keys and roles: there is nothing to normalise."""

OF_MESSAGES = "messages[]."
"""Before the name of a key that is not read."""

SPEAKER = re.compile(r"""\bm(sg|essage)?(\.name\b|\[['"]name['"]\])""")
"""How a template writes the name of who speaks."""


Spelling = tuple[str, str]
"""A field of the job, and what a message has of it: ("columns.role", "speaker") or ("roles", "Agent")."""


@dataclass(slots=True, kw_only=True)
class Turns:
    """Messages, and what else the turns said."""

    messages: list[Message] = field(default_factory=list)
    unlearned: list[int] = field(default_factory=list)
    """Answers that a switch of the data takes out of the loss."""
    unread: dict[str, Any] = field(default_factory=dict)
    """Keys that are not read and not known to be harmless, with a value."""
    spelt: set[Spelling] = field(default_factory=set)
    """What the messages have of what the job names."""


def turns_of(value: Any, form: TurnForm) -> Turns:
    """Check and normalise a list of turns; a table holds it as JSON text. Raises RowInvalid."""
    found = Turns()
    if isinstance(value, str) and (messages := written_out(value)):
        return Turns(messages=messages)
    if isinstance(value, str):
        value = spoken_lines(value) or parsed(value, "its messages", else_=AS_TURNS)
    if isinstance(value, str):  # written twice, as a table does with text that was JSON already
        value = parsed(value, "its messages", else_=AS_TURNS)
    if isinstance(value, dict):
        value = numbered_values(value) or _inside(value, found)
    if not isinstance(value, list) or not value:
        raise RowInvalid("its messages are not a list with at least one message")
    value = named_pairs(value, form.roles) or value
    if not form.by_turns and lacks_roles(value):
        raise WithoutRoles
    if is_alternating(value):
        return Turns(messages=alternating(value))
    refuse_branches(value)
    problems: list[RowInvalid] = []
    unknown: RowInvalid | None = None
    for number, item in enumerate(value, start=1):
        try:
            _add(item, number, form, found)
        except UnknownRole as role:
            unknown = unknown or _unknown(role, number, value, form)  # which maps all of them
        except RowInvalid as problem:
            problems.append(problem)
    raise_all([*([unknown] if unknown else []), *problems])
    if not found.messages:
        raise RowInvalid("its messages say nothing")
    return found


def _unknown(unknown: UnknownRole, number: int, turns: list[Any], form: TurnForm) -> RowInvalid:
    problem = RowInvalid(
        f"message {number} has the role {unknown.word!r}, which is unknown: map it with datasets[].roles, such as "
        f"roles: {{{mapping(turns, form)}}}{misspelt(unknown.word, form)}"
    )
    problem.__cause__ = unknown
    return problem


def _inside(value: dict[str, Any], found: Turns) -> Any:
    """One message alone, the body of an API call, its answer, or a struct of lists as `datasets` stores a list of structs."""
    if isinstance(value.get("messages"), list):
        found.unread |= {key: item for key, item in value.items() if key != "messages" and not is_empty(item)}
        return value["messages"]
    match value.get("choices"):
        case [{"message": dict() as message}, *_]:
            return [message]
    if any(isinstance(value.get(key), str) for key in ROLE_KEYS):
        return [value]
    columns = list(value.values())
    if columns and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(value, items, strict=True)) for items in zip(*columns, strict=True)]
    return None


def _add(item: Any, number: int, form: TurnForm, found: Turns) -> None:
    if _is_plain(item) and _is_default(form):
        found.messages.append({"role": item["role"], "content": item["content"]})
        return
    who = f"message {number}"
    if not isinstance(item, dict):
        raise RowInvalid(f"{who} is not an object with role and content")
    _check_keys(item, who, form, found)
    said = {key: value for key, value in item.items() if value is not None}
    if isinstance(said.get("data"), dict) and _is_typed(said):
        said = {**said["data"], TYPE: said[TYPE]}  # LangChain
    role_key = form.role or next((key for key in ROLE_KEYS if key in said), TYPE if _is_typed(said) else "")
    if not role_key and (without_role := pair_in(said) or by_speaker(said, who)):
        for one in without_role:
            _add(one, number, form, found)
        return
    role = role_of(said.get(role_key), who, form, said)
    if form.roles:
        found.spelt.add(("roles", str(role_word(said[role_key]))))
    content_key = form.content or next((key for key in CONTENT_KEYS if key in said and key != role_key), "content")
    if role in (SYSTEM, DEVELOPER) and content_key not in said:
        return  # null: the place of a system prompt in a conversation without one
    parts = _content(said.get(content_key), role, said, who)
    if role == CALL:
        parts = Parts(calls=calls_of(parts.text, who))
        role = ASSISTANT
    message = _message(role, parts, said, who)
    learned = _switch(said, role, who, found)
    if "name" in message and role != TOOL and form.template and not SPEAKER.search(form.template):
        found.unread[f"{OF_MESSAGES}name of role {role}"] = message.pop("name")
    _keep(said, {role_key, content_key}, message, form, found)
    _place(message, parts, learned, found, who)


def _keep(said: dict[str, Any], known: set[str], message: Message, form: TurnForm, found: Turns) -> None:
    """Leave keys that the template names to it, and keep in mind those that nobody reads."""
    read = {*known, "function_call", *LOSS_SWITCHES, *MESSAGE_KEYS}
    for key, extra in said.items():
        if key in read or is_empty(extra):
            continue
        if form.template and key in form.template:
            message[key] = extra
        elif (
            not is_harmless(key)
            and key not in LINKS
            and not (key == DETAILS and detailed_thoughts(said))
            and extra != message["content"]
        ):
            found.unread[f"{OF_MESSAGES}{key}"] = found.unread.get(f"{OF_MESSAGES}{key}") or extra


def _check_keys(item: dict[str, Any], who: str, form: TurnForm, found: Turns) -> None:
    """Keep in mind which of the keys that the job names are there. Raises RowInvalid for one that is not."""
    for key, column in (("columns.role", form.role), ("columns.content", form.content)):
        if column in item:
            found.spelt.add((key, column))
        elif column and (key == "columns.role" or not _has_calls(item)):
            raise RowInvalid(
                f"{who} has no {column}, which {key} names (its keys: {', '.join(map(str, item)) or 'none'})"
                f"{did_you_mean([nearest(column, map(str, item))])}"
            )


def _is_typed(said: dict[str, Any]) -> bool:
    return isinstance(said.get(TYPE), str) and said[TYPE].lower() in ROLES


def _is_plain(item: Any) -> bool:
    if not isinstance(item, dict) or item.keys() != PLAIN_KEYS:
        return False
    return item["role"] in PLAIN_ROLES and isinstance(item["content"], str)


def _is_default(form: TurnForm) -> bool:
    return not (form.role or form.content or form.roles)


def _place(message: Message, parts: Parts, learned: bool | None, found: Turns, who: str) -> None:
    """Results of tools come before the words that stand beside them; a message of results alone is nothing more."""
    if parts.results and message["role"] not in (USER, TOOL):
        raise RowInvalid(f"{who} ({message['role']}) holds a tool result, which needs role tool or user")
    found.messages += parts.results
    if parts.results and not message["content"].strip():
        return
    if learned is False and message["role"] == ASSISTANT:
        found.unlearned.append(len(found.messages))
    found.messages.append(message)


def _content(content: Any, role: str, said: dict[str, Any], who: str) -> Parts:
    if role == TOOL and isinstance(content, dict | list) and not is_parts(content):
        return Parts(text=json.dumps(content, ensure_ascii=False) if content else "")
    if isinstance(content, dict):
        content = content.get("parts") if isinstance(content.get("parts"), list) else [content]
    match content:
        case str():
            return Parts(text=content)
        case list() if not content and role in (ASSISTANT, TOOL):
            return Parts()
        case list():
            return parts_of(content, who)
        case None if role == TOOL or _has_calls(said):
            return Parts()
        case None if said.get("refusal"):
            raise RowInvalid(
                f"{who} has a refusal and no content: put its text into content to learn it, or remove the row"
            )
        case None:
            raise RowInvalid(f"{who} ({role}) has no text in content{_with_content(said)}")
        case _:
            raise RowInvalid(f"{who} has content that is {kind(content)}, not text")


def _with_content(said: dict[str, Any]) -> str:
    """Say that another key holds the text; empty where none does."""
    held = [key for key, value in said.items() if isinstance(value, str) and key not in (*ROLE_KEYS, *CONTENT_KEYS)]
    told = [key for key in held if not is_harmless(key)]
    return f" (its keys: {', '.join(said)}): name the key that holds it in columns.content" if told else ""


def _has_calls(said: dict[str, Any]) -> bool:
    return not (is_empty(said.get("tool_calls")) and is_empty(said.get("function_call")))


def _message(role: str, parts: Parts, said: dict[str, Any], who: str) -> Message:
    message: Message = {"role": role, "content": parts.text}
    calls = list(parts.calls)
    if not is_empty(said.get("tool_calls")):
        calls += calls_of(said["tool_calls"], who)
    if not is_empty(said.get("function_call")):
        calls += calls_of(said["function_call"], who)
    if calls and role != ASSISTANT:
        raise RowInvalid(f"{who} ({role}) has tool calls, which only the assistant can make")
    if calls:
        message["tool_calls"] = calls
    thoughts = {key: said[key] for key in REASONING if not is_empty(said.get(key))}
    if thought := parts.thoughts or ("" if thoughts else detailed_thoughts(said)):
        thoughts["reasoning_content"] = thought
    if any(not isinstance(thought, str) for thought in thoughts.values()):
        raise RowInvalid(f"{who} has reasoning that is not text")
    names = {key: said[key] for key in ("name", "tool_call_id") if not is_empty(said.get(key))}
    return {**message, **thoughts, **names}


def _switch(said: dict[str, Any], role: str, who: str, found: Turns) -> bool | None:
    """Return whether the data says that a message is learned; None where it says nothing. Raises RowInvalid."""
    if inside := next((key for key in PARTIAL_SWITCHES if not is_empty(said.get(key))), ""):
        raise RowInvalid(
            f"{who} has {inside}, which takes parts of a message out of the loss: only whole messages can be, so remove it to learn all of "
            "the message, or set weight: 0 to learn nothing of it"
        )
    wanted: bool | None = None
    for key in LOSS_SWITCHES:
        if key not in said:
            continue
        value = truth(said[key])
        if value is None:
            raise RowInvalid(
                f"{who} has {key} {said[key]!r}: only 0 (context) and 1 (learned) are read, so remove it or use one of them"
            )
        wanted = value if wanted is None else wanted and value
        if value and role != ASSISTANT:
            found.unread[f"{OF_MESSAGES}{key} of role {role}"] = value
    return wanted
