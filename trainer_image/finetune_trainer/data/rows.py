"""Records become rows: the columns are told apart, messages are checked, and every row gets a hash of what it says."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune_contract import Columns

from finetune_trainer.chat.conversation import Conversation, Message
from finetune_trainer.chat.encoding import Plain
from finetune_trainer.data.advice import LABEL, missing, unpaired
from finetune_trainer.data.records import Record
from finetune_trainer.errors import UserError

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
SHAREGPT_ROLES = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
    "function_call": "assistant", "observation": "tool",
}  # fmt: skip
TOOLS = "tools"


class RowInvalid(Exception):
    """A record that does not say what its format needs; the message says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row, whatever its format was."""

    messages: tuple[Message, ...] = ()
    tools: Sequence[Any] | None = None
    first_learned: int = 0
    prompt: str = ""
    text: str = ""
    """Plain text, or the completion of a plain prompt."""

    def fingerprint(self) -> int:
        """64 bits of a hash over all that the row says: exact duplicates have the same.

        Raises RowInvalid for text that no encoding can write: half of a UTF-16 pair, as cut strings leave it.
        """
        content = [self.messages, self.tools, self.first_learned, self.prompt, self.text]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
        try:
            written = canonical.encode("utf-8")
        except UnicodeEncodeError as error:
            half = f"\\u{ord(canonical[error.start]):04x}"
            raise RowInvalid(f"it holds {half}, half of a character: correct or remove it") from error
        return int.from_bytes(hashlib.blake2b(written, digest_size=8).digest(), "big")

    def to_encode(self) -> Conversation | Plain:
        """Return what the encoder takes."""
        if self.messages:
            return Conversation(messages=self.messages, tools=self.tools, first_learned=self.first_learned)
        return Plain(text=self.prompt + self.text, learned_from=len(self.prompt))


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How the records of one data set are read."""

    kind: str
    """messages | prompt-completion | text"""
    columns: Columns
    conversational: bool
    """The tokenizer has a template, so a plain prompt and completion are a question and an answer."""
    system_prompt: str


def detect(wanted: str, columns: Columns, record: Record, uri: str, *, chat: "ChatForm") -> Format:
    """Tell the format by the first record's columns. Raises UserError(DatasetInvalid) with those that exist."""
    named = Columns(
        messages=columns.messages
        or ("conversations" if "messages" not in record and "conversations" in record else "messages"),
        prompt=columns.prompt or "prompt",
        completion=columns.completion or "completion",
        text=columns.text or "text",
        system=columns.system or "system",
    )
    needs = {
        "messages": (named.messages,),
        "prompt-completion": (named.prompt, named.completion),
        "text": (named.text,),
    }
    if wanted == "auto" and isinstance(record.get(LABEL), bool) and named.completion in record:
        raise UserError("DatasetInvalid", unpaired(record, uri))
    kinds = needs if wanted == "auto" else {wanted: needs[wanted]}
    for kind, wanted_columns in kinds.items():
        if all(column in record for column in wanted_columns):
            return Format(
                kind=kind, columns=named, conversational=chat.conversational, system_prompt=chat.system_prompt
            )
    raise UserError("DatasetInvalid", missing(kinds, record, uri))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatForm:
    """What rows need to know of the chat settings."""

    conversational: bool
    system_prompt: str


def to_row(record: Record, form: Format) -> Row:
    """Turn a record into a row. Raises RowInvalid."""
    match form.kind:
        case "messages":
            messages = to_messages(_value(record, form.columns.messages))
            return Row(messages=_with_system(messages, record, form), tools=_tools(record))
        case "prompt-completion":
            return _prompt_completion(record, form)
        case _:
            return Row(text=_text(record, form.columns.text))


def to_messages(value: Any) -> tuple[Message, ...]:
    """Check and normalise a list of messages; CSV holds it as JSON text. Raises RowInvalid."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowInvalid("its messages are text that is not JSON") from error
    if not isinstance(value, list) or not value:
        raise RowInvalid("its messages are not a list with at least one message")
    return tuple(_message(item, number) for number, item in enumerate(value, start=1))


def _message(item: Any, number: int) -> Message:
    if not isinstance(item, dict):
        raise RowInvalid(f"message {number} is not an object with role and content")
    message = dict(item)
    if "role" not in message and "from" in message:
        said_by = str(message["from"])
        message = {"role": SHAREGPT_ROLES.get(said_by, said_by), "content": message.get("value")}
    if message.get("role") not in ROLES:
        raise RowInvalid(f"message {number} has the role {message.get('role')!r}: it must be one of {', '.join(ROLES)}")
    if isinstance(message.get("content"), list):
        message["content"] = _joined(message["content"], number)
    if message.get("tool_calls"):
        message["tool_calls"] = [_tool_call(call, number) for call in message["tool_calls"]]
        message["content"] = message.get("content") or ""
    if not isinstance(message.get("content"), str):
        raise RowInvalid(f"message {number} has no text as content")
    return message


def _joined(parts: list[Any], number: int) -> str:
    """Content in parts: text is joined, images and audio are refused."""
    kinds = {part.get("type") if isinstance(part, dict) else type(part).__name__ for part in parts}
    if kinds != {"text"}:
        found = ", ".join(sorted(map(str, kinds))) or "nothing"
        raise RowInvalid(
            f'message {number} holds {found}: only parts such as {{"type": "text", "text": ...}} are trained'
        )
    if not all(isinstance(part.get("text"), str) for part in parts):
        raise RowInvalid(f"message {number} has a part of type text without text")
    return "".join(part["text"] for part in parts)


def _tool_call(call: Any, number: int) -> Any:
    """Arguments as an object, which is what chat templates expect; some files hold them as JSON text."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or "name" not in function:
        raise RowInvalid(f"message {number} has a tool call without a function name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError as error:
            raise RowInvalid(f"message {number} has tool call arguments that are not JSON") from error
    return {**call, "function": {**function, "arguments": arguments}}


def _prompt_completion(record: Record, form: Format) -> Row:
    prompt, completion = record.get(form.columns.prompt), record.get(form.columns.completion)
    if isinstance(prompt, list) or isinstance(completion, list):
        before = to_messages(prompt) if isinstance(prompt, list) else (_said("user", record, form.columns.prompt),)
        after = (
            to_messages(completion)
            if isinstance(completion, list)
            else (_said("assistant", record, form.columns.completion),)
        )
    elif form.conversational:
        before = (_said("user", record, form.columns.prompt),)
        after = (_said("assistant", record, form.columns.completion),)
    else:
        system = _system(record, form)
        prompt = _text(record, form.columns.prompt)
        return Row(prompt=f"{system}\n\n{prompt}" if system else prompt, text=_text(record, form.columns.completion))
    before = _with_system(before, record, form)
    return Row(messages=(*before, *after), tools=_tools(record), first_learned=len(before))


def _said(role: str, record: Record, column: str) -> Message:
    return {"role": role, "content": _text(record, column)}


def _with_system(messages: tuple[Message, ...], record: Record, form: Format) -> tuple[Message, ...]:
    system = _system(record, form)
    if not system or messages[0]["role"] in ("system", "developer"):
        return messages
    return ({"role": "system", "content": system}, *messages)


def _system(record: Record, form: Format) -> str:
    value = record.get(form.columns.system)
    return value if isinstance(value, str) and value else form.system_prompt


def _tools(record: Record) -> Sequence[Any] | None:
    tools = record.get(TOOLS)
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else None
        except ValueError as error:
            raise RowInvalid("its tools are text that is not JSON") from error
    if tools and not isinstance(tools, list):
        raise RowInvalid(f"its tools are {type(tools).__name__}, not a list of tools")
    return tools or None


def _text(record: Record, column: str) -> str:
    value = _value(record, column)
    if not isinstance(value, str):
        raise RowInvalid(f"its {column} is {type(value).__name__}, not text")
    return value


def _value(record: Record, column: str) -> Any:
    if record.get(column) is None:
        raise RowInvalid(f"its {column} is empty or missing; the row has {', '.join(map(str, record))}")
    return record[column]
