"""Which columns of a data set play which role, told by their names. Raises with what to write instead where none do."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_contract import Dataset

from finetune_trainer.data.formats.advice import (
    one_message_a_row,
    several_answers,
    without_system,
    without_text,
)
from finetune_trainer.data.formats.chosen import PLACEHOLDER, named_columns, refuse_unknown
from finetune_trainer.data.formats.invalid import NoForm
from finetune_trainer.data.formats.names import (
    CALLS,
    COMPLETIONS,
    CONTENT_KEYS,
    HISTORIES,
    JOINED,
    LABELS,
    PREFERENCES,
    PROMPTS,
    ROLE_KEYS,
    ROLES,
    SYSTEMS,
    TOOLS,
    TURNS,
    UNDECIDED,
    UNDECIDED_ENDS,
    bare,
    is_empty,
    is_reply,
    truth,
)
from finetune_trainer.data.formats.preference import judged, preference, undecided, unpaired
from finetune_trainer.data.formats.roles import TurnForm
from finetune_trainer.data.formats.texts import is_alternating
from finetune_trainer.data.formats.transcripts import written_out
from finetune_trainer.data.reading.record import Record
from finetune_trainer.errors import UserError

VERDICTS = ("accept", "reject", "ignore")
"""What Prodigy writes of each task into a column answer."""

MESSAGES, PAIR, TEXT = "messages", "prompt-completion", "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatForm:
    """What rows need to know of the chat settings."""

    conversational: bool
    """The tokenizer has a template, so a plain prompt and completion are a question and an answer."""
    system_prompt: str
    template: str = ""
    plain: bool = False
    """Objective cpt: a column of text is all that is learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How records with certain columns are read."""

    kind: str
    """messages | prompt-completion | text"""
    messages: str = ""
    prompt: str = ""
    completion: str = ""
    text: str = ""
    system: str = ""
    tools: str = ""
    history: str = ""
    joined: tuple[str, ...] = ()
    """Columns that follow the prompt."""
    template: str = ""
    """Joins columns into the prompt, instead of the column."""
    calls: bool = False
    """The completion is a list of tool calls."""
    turns: TurnForm
    conversational: bool
    system_prompt: str

    classes: tuple[str, ...] = ()
    """Names of the classes whose numbers are the completions."""
    rejected: str = ""
    """The other side of a preference pair of which one answer is learned."""

    @property
    def named(self) -> frozenset[str]:
        """The columns and what lies inside them that is read, or left out because the job chose another one."""
        named = (
            self.rejected,
            self.messages,
            self.prompt,
            self.completion,
            self.text,
            self.system,
            self.tools,
            self.history,
        )
        return frozenset({*named, *self.joined, *PLACEHOLDER.findall(self.template)} - {""})

    @property
    def read(self) -> frozenset[str]:
        """The same, with the columns in which something is read."""
        return self.named | {name.split(".")[0] for name in self.named}


def detect(dataset: Dataset, record: Record, uri: str, chat: ChatForm, *, wanted: str = "") -> Format:
    """Tell the format by a record's columns. Raises NoForm, or UserError(DatasetInvalid) for data that must not be learned so."""
    names = _by_bare_name(record)
    kind = wanted or (dataset.format if dataset.format != "auto" else "")
    if not kind and not chat.plain:
        _refuse_other_kinds(dataset, names, record, uri)
    kinds = [kind] if kind else _kinds(dataset, plain=chat.plain)
    fitting = [(one, _columns(one, dataset, names, record)) for one in kinds]
    known = [(one, found) for one, found in fitting if found]
    if not known and chat.plain:
        raise UserError("DatasetInvalid", without_text(record, uri))
    if not known:
        refuse_unknown(named_columns(dataset), record, uri)
        _refuse_lone_messages(dataset, names, record, uri)
        raise NoForm
    chosen, columns = next((one for one in known if _is_filled(record, one[1])), known[0])
    if chosen == TEXT and not kind and not chat.plain:
        _refuse_lone_messages(dataset, names, record, uri)
    if chosen == TEXT and dataset.columns.system:
        raise UserError("DatasetInvalid", without_system(dataset.columns.system, columns["text"], uri))
    if dataset.class_names and chosen != PAIR:
        raise UserError(
            "DatasetInvalid",
            f"{uri} is read as {chosen}, so datasets[].classNames has no effect: name the column of the class in columns.completion, or "
            "remove classNames",
        )
    return Format(
        kind=chosen,
        **columns,
        rejected=_rejected(columns, names),
        classes=dataset.class_names,
        turns=TurnForm(
            role=dataset.columns.role,
            content=dataset.columns.content,
            roles=dict(dataset.roles),
            template=chat.template,
            by_turns=bool(dataset.columns.messages),
        ),
        conversational=chat.conversational,
        system_prompt=chat.system_prompt,
    )


def _is_filled(record: Record, columns: Mapping[str, Any]) -> bool:
    """Parquet gives every row all columns, with nothing in those that only others use."""
    return any(record.get(columns.get(role, "")) is not None for role in (MESSAGES, "completion", TEXT))


def _by_bare_name(record: Record) -> dict[str, str]:
    names: dict[str, str] = {}
    for name in filter(None, record):
        names.setdefault(bare(str(name)), name)
    return names


def _kinds(dataset: Dataset, *, plain: bool) -> tuple[str, ...]:
    """The columns that the job names tell the format, else the data does."""
    named = dataset.columns
    if named.messages:
        return (MESSAGES,)
    if named.prompt or named.completion or dataset.prompt_template:
        return (PAIR,)
    if named.text:
        return (TEXT,)
    return (TEXT, MESSAGES, PAIR) if plain else (MESSAGES, PAIR, TEXT)


def _columns(kind: str, dataset: Dataset, names: Mapping[str, str], record: Record) -> dict[str, Any] | None:
    named = dataset.columns
    shared = {"system": named.system or _first(SYSTEMS, names), "tools": _first(TOOLS, names)}
    if kind == MESSAGES:
        column = named.messages or _turns_column(names, record, certain=dataset.format == MESSAGES)
        return {"messages": column, **shared} if named.messages or column in record else None
    if kind == TEXT:
        column = named.text or _first(("text",), names)
        return {"text": column} if named.text or column in record else None
    return _pair(dataset, names, record, shared)


def _pair(dataset: Dataset, names: Mapping[str, str], record: Record, shared: dict[str, str]) -> dict[str, Any] | None:
    named = dataset.columns
    if not any((named.prompt, named.completion, dataset.prompt_template)) and all(name in names for name in CALLS):
        query, answers, _ = (names[name] for name in CALLS)
        return {"prompt": query, "completion": answers, "calls": True, **shared}
    completion = named.completion or _first(COMPLETIONS, names)
    if not named.completion and completion not in record:
        return None
    if dataset.prompt_template:
        return {"template": dataset.prompt_template, "completion": completion, **shared}
    prompt = named.prompt or _first([name for name in PROMPTS if names.get(name) != completion], names)
    if not named.prompt and prompt not in record:
        return None
    beside = () if named.prompt else JOINED.get(bare(prompt), ())
    joined = tuple(names[name] for name in beside if name in names and names[name] != completion)
    return {"prompt": prompt, "completion": completion, "joined": joined, "history": _history(names, record), **shared}


def _history(names: Mapping[str, str], record: Record) -> str:
    """A transcript in plain text is left to the job's promptTemplate."""
    known = [names[name] for name in HISTORIES if name in names]
    return next((name for name in known if is_empty(record[name]) or is_turns(record[name])), "")


def _rejected(found: Mapping[str, Any], names: Mapping[str, str]) -> str:
    chosen = [found.get(role) for role in (MESSAGES, "completion", TEXT)]
    return next((names[bad] for good, bad in PREFERENCES if bad in names and names.get(good, "") in chosen), "")


def _first(candidates: Any, names: Mapping[str, str]) -> str:
    return next((names[name] for name in candidates if name in names), "")


def _turns_column(names: Mapping[str, str], record: Record, *, certain: bool) -> str:
    known = [names[name] for name in TURNS if name in names]
    return next((name for name in known if certain or is_turns(record[name])), "")


def is_turns(value: Any) -> bool:
    """Tell whether a value looks like a list of turns: of objects, the same as JSON text, written out, or a struct of lists."""
    match value:
        case str():
            return value.lstrip()[:1] == "[" or written_out(value) is not None
        case list():
            return all(isinstance(item, dict) for item in value) or is_alternating(value)
        case dict():
            if isinstance(value.get("messages"), list):
                return True
            columns = list(value.values())
            return bool(columns) and all(isinstance(column, list) for column in columns)
        case None:
            return True
        case _:
            return False


def _refuse_other_kinds(dataset: Dataset, names: Mapping[str, str], record: Record, uri: str) -> None:
    """Refuse data of which sft would learn what it should not, unless the job names the columns to learn."""
    named = dataset.columns
    if named.messages or named.text:
        return
    completion = named.completion or _first(COMPLETIONS, names)
    turns = _turns_column(names, record, certain=False)
    label = _first(LABELS, names)
    if (completion or turns) and completion != label and truth(record.get(label)) is not None:
        raise UserError("DatasetInvalid", unpaired(record, label, MESSAGES if turns else PAIR, uri))
    if record.get("answer") in VERDICTS and any(key in record for key in ("_task_hash", "_input_hash")):
        raise UserError("DatasetInvalid", judged(record, uri))
    if named.completion:
        return
    for good, bad in PREFERENCES:
        if good in names and bad in names:
            prompt = (named.prompt if named.prompt in record else "") or _first(PROMPTS, names) or turns
            raise UserError("DatasetInvalid", preference(record, names[good], names[bad], prompt, uri))
    for stem, (one, other) in itertools.product(UNDECIDED, UNDECIDED_ENDS):
        if f"{stem}{one}" in names and f"{stem}{other}" in names and not _is_chosen(names):
            raise UserError("DatasetInvalid", undecided(record, names[f"{stem}{one}"], names[f"{stem}{other}"], uri))
    several = names.get("completions", "")
    if isinstance(record.get(several), list) and not _is_chosen(names):
        raise UserError("DatasetInvalid", several_answers(record, several, uri))


def _is_chosen(names: Mapping[str, str]) -> bool:
    """Tell whether the better answer stands in a column of its own, as a message asks for it."""
    return "completion" in names or "messages" in names


def _refuse_lone_messages(dataset: Dataset, names: Mapping[str, str], record: Record, uri: str) -> None:
    text = _first(CONTENT_KEYS, names)
    role = record.get(_first(ROLE_KEYS, names))
    speaks = isinstance(role, dict) or (isinstance(role, str) and role.strip().lower() in ROLES)
    in_a_chat = record.get(names.get("type", "type")) == "message"  # Slack's
    replies = any(map(is_reply, names))
    if text and not dataset.columns.text and (speaks or in_a_chat or replies):
        raise UserError("DatasetInvalid", one_message_a_row(uri, text))
