"""Which columns of a data set play which role, told by their names. Raises with what to write instead where none do."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from finetune_contract import Dataset

from finetune_trainer.data.formats.advice import (
    without_system,
    without_text,
)
from finetune_trainer.data.formats.captions import refuse_captions
from finetune_trainer.data.formats.chosen import PLACEHOLDER, named_columns, refuse_unknown
from finetune_trainer.data.formats.columns import by_bare_name, first, is_turns, turns_column
from finetune_trainer.data.formats.invalid import NoForm
from finetune_trainer.data.formats.names import (
    CALLS,
    COMPLETIONS,
    HISTORIES,
    JOINED,
    PREFERENCES,
    SYSTEMS,
    TOOLS,
    bare,
    is_empty,
)
from finetune_trainer.data.formats.numbered import numbered_turns
from finetune_trainer.data.formats.pairs import paired, question_of
from finetune_trainer.data.formats.refused import refuse_lone_messages, refuse_other_kinds
from finetune_trainer.data.formats.roles import TurnForm
from finetune_trainer.data.reading.record import Record
from finetune_trainer.errors import UserError

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


@dataclass(frozen=True, kw_only=True)
class Format:
    """How records with certain columns are read. Without slots, for what all rows of these columns share is computed once."""

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
    numbered: tuple[tuple[str, str], ...] = ()
    """Columns that hold a turn each, with their roles."""
    turns: TurnForm
    conversational: bool
    system_prompt: str

    classes: tuple[str, ...] = ()
    """Names of the classes whose numbers are the completions."""
    by_names: bool = False
    """The two columns are a pair that public data sets have, which is said."""
    rejected: str = ""
    """The other side of a preference pair of which one answer is learned."""

    @cached_property
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
        turns = (column for column, _ in self.numbered)
        return frozenset({*named, *turns, *self.joined, *PLACEHOLDER.findall(self.template)} - {""})

    @cached_property
    def read(self) -> frozenset[str]:
        """The same, with the columns in which something is read."""
        return self.named | {outer for name in self.named for outer in ways(name)}

    @cached_property
    def inner(self) -> tuple[str, ...]:
        """Those that lie inside of columns."""
        return tuple(name for name in self.named if "." in name)


def ways(name: str) -> tuple[str, ...]:
    """Return the columns in which a name with dots may lie: `a.b` itself may be the name of one."""
    parts = name.split(".")
    return tuple(".".join(parts[:end]) for end in range(1, len(parts)))


def detect(dataset: Dataset, record: Record, uri: str, chat: ChatForm, *, wanted: str = "") -> Format:
    """Tell the format by a record's columns. Raises NoForm, or UserError(DatasetInvalid) for data that must not be learned so."""
    names = by_bare_name(record)
    kind = wanted or (dataset.format if dataset.format != "auto" else "")
    if not kind and not chat.plain:
        refuse_other_kinds(dataset, names, record, uri)
    kinds = [kind] if kind else _kinds(dataset, plain=chat.plain)
    fitting = [(one, _columns(one, dataset, names, record)) for one in kinds]
    known = [(one, found) for one, found in fitting if found]
    if not known and chat.plain:
        raise UserError("DatasetInvalid", without_text(record, uri))
    if not known:
        refuse_unknown(named_columns(dataset), record, uri)
        refuse_lone_messages(dataset, names, record, uri)
        if not named_columns(dataset):
            refuse_captions(record, uri)
        raise NoForm
    chosen, columns = next((one for one in known if _is_filled(record, one[1])), known[0])
    if chosen == TEXT and not kind and not chat.plain and not dataset.columns.text:
        refuse_lone_messages(dataset, names, record, uri)
        refuse_captions(record, uri)
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
    held = [columns.get(role, "") for role in (MESSAGES, "completion", TEXT)]
    return any(record.get(column) is not None for column in (*held, *(name for name, _ in columns.get("numbered", ()))))


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
    shared = {"system": named.system or first(SYSTEMS, names), "tools": first(TOOLS, names)}
    if kind == MESSAGES:
        column = named.messages or turns_column(names, record, certain=dataset.format == MESSAGES)
        if named.messages or column in record:
            return {"messages": column, **shared}
        numbered = numbered_turns(record)
        return {"numbered": numbered, **shared} if numbered else None
    if kind == TEXT:
        column = named.text or first(("text",), names)
        return {"text": column} if named.text or column in record else None
    return _pair(dataset, names, record, shared)


def _pair(dataset: Dataset, names: Mapping[str, str], record: Record, shared: dict[str, str]) -> dict[str, Any] | None:
    named = dataset.columns
    if not any((named.prompt, named.completion, dataset.prompt_template)) and all(name in names for name in CALLS):
        query, answers, _ = (names[name] for name in CALLS)
        return {"prompt": query, "completion": answers, "calls": True, **shared}
    completion = named.completion or first(COMPLETIONS, names)
    if not any((named.prompt, named.completion, dataset.prompt_template)) and (pair := paired(names, record)):
        return {"prompt": pair[0], "completion": pair[1], "by_names": True, **shared}
    if not named.completion and completion not in record:
        return None
    if dataset.prompt_template:
        return {"template": dataset.prompt_template, "completion": completion, **shared}
    prompt = named.prompt or question_of(completion, names, record)
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
