"""Data of which sft would learn what it should not: preferences, several answers, trees, single messages. Called by detect."""

import itertools
from collections.abc import Mapping

from finetune_contract import Dataset

from finetune_trainer.data.formats.advice import one_message_a_row, several_answers, several_questions
from finetune_trainer.data.formats.columns import first, turns_column
from finetune_trainer.data.formats.names import (
    COMPLETIONS,
    CONTENT_KEYS,
    LABELS,
    PREFERENCES,
    PROMPTS,
    ROLE_KEYS,
    ROLES,
    UNDECIDED,
    UNDECIDED_ENDS,
    is_reply,
    names_answer,
    truth,
)
from finetune_trainer.data.formats.numbered import numbered_questions, numbered_turns
from finetune_trainer.data.formats.preference import judged, preference, undecided, unpaired
from finetune_trainer.data.formats.trees import tree_refusal
from finetune_trainer.data.reading.record import Record
from finetune_trainer.errors import CountedError, UserError

SENDERS = ("sender", "speaker", "from")
"""Names of columns that stand beside the text of one message; an author stands beside a book, too."""

CONVERSATION_IDS = ("convid", "conversationid", "dialogid", "dialogueid", "chatid", "threadid", "sessionid")
TURN_NUMBERS = (
    "utteranceidx",
    "utteranceid",
    "turn",
    "turnid",
    "turnidx",
    "turnindex",
    "turnnumber",
    "messageindex",
    "speakeridx",
)
"""Names of columns that say together that a row is one turn of a conversation (EmpatheticDialogues, MultiWOZ as a table)."""

VERDICTS = ("accept", "reject", "ignore")
"""What Prodigy writes of each task into a column answer."""


def refuse_other_kinds(dataset: Dataset, names: Mapping[str, str], record: Record, uri: str) -> None:
    """Refuse data of which sft would learn what it should not, unless the job names the columns to learn."""
    named = dataset.columns
    if named.messages or named.text:
        return
    completion = named.completion or first(COMPLETIONS, names)
    turns = turns_column(names, record, certain=False)
    label = first(LABELS, names)
    named_class = bool(label) and completion.startswith(label)  # label and label_text: a class and its name
    if (completion or turns) and not named_class and truth(record.get(label)) is not None:
        form = "messages" if turns else "prompt-completion"
        raise CountedError(
            lambda one: truth(one.get(label)) is False, lambda bad, rows: unpaired(record, label, form, uri, bad, rows)
        )
    if record.get("answer") in VERDICTS and any(key in record for key in ("_task_hash", "_input_hash")):
        raise UserError("DatasetInvalid", judged(record, uri))
    if named.completion:
        return
    for good, bad in PREFERENCES:
        if good in names and bad in names:
            prompt = (named.prompt if named.prompt in record else "") or first(PROMPTS, names) or turns
            raise UserError("DatasetInvalid", preference(record, names[good], names[bad], prompt, uri))
    if numbered_turns(record):
        return
    if not named.prompt:
        _refuse_several(record, uri)
    _refuse_undecided(record, names, uri)


def _refuse_several(record: Record, uri: str) -> None:
    """Refuse rows that hold more than one conversation."""
    if questions := numbered_questions(record):
        raise UserError("DatasetInvalid", several_questions(questions, uri))
    if tree := tree_refusal(record, uri):
        raise UserError("DatasetInvalid", tree)


def _refuse_undecided(record: Record, names: Mapping[str, str], uri: str) -> None:
    """Refuse rows that hold several answers of which one may be the better one."""
    for stem, (one, other) in itertools.product(UNDECIDED, UNDECIDED_ENDS):
        if f"{stem}{one}" in names and f"{stem}{other}" in names and not _is_chosen(names):
            raise UserError("DatasetInvalid", undecided(record, names[f"{stem}{one}"], names[f"{stem}{other}"], uri))
    several = names.get("completions", "")
    if isinstance(record.get(several), list) and not _is_chosen(names):
        raise UserError("DatasetInvalid", several_answers(record, several, uri))


def _is_chosen(names: Mapping[str, str]) -> bool:
    """Tell whether the better answer stands in a column of its own, as a message asks for it."""
    return "completion" in names or "messages" in names


def refuse_lone_messages(dataset: Dataset, names: Mapping[str, str], record: Record, uri: str) -> None:
    """Refuse rows that hold one message each."""
    text = first(CONTENT_KEYS, names)
    role = record.get(first(ROLE_KEYS, names))
    speaks = isinstance(role, dict) or (isinstance(role, str) and role.strip().lower() in ROLES)
    in_a_chat = record.get(names.get("type", "type")) == "message"  # Slack's
    replies = any(map(is_reply, names))
    sent = isinstance(record.get(first(SENDERS, names)), str) and not any(map(names_answer, map(str, record)))
    numbered = any(name in names for name in CONVERSATION_IDS) and any(name in names for name in TURN_NUMBERS)
    if text and not dataset.columns.text and (speaks or in_a_chat or replies or sent or numbered):
        raise CountedError(
            lambda one: isinstance(one.get(text), str),
            lambda held, rows: one_message_a_row(record, uri, text, held, rows),
        )
