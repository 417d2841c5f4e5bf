"""Content in parts, in the forms of OpenAI, Anthropic, Bedrock and Gemini: text, thoughts, tool calls and their results."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from finetune_trainer.data.formats.calls import calls_of
from finetune_trainer.data.formats.invalid import RowInvalid

TEXT = ("text", "input_text", "output_text")
CALLS = {"tool_use": "", "toolUse": "toolUse", "functionCall": "functionCall", "function_call": "function_call"}
RESULTS = {
    "tool_result": "",
    "toolResult": "toolResult",
    "functionResponse": "functionResponse",
    "function_response": "function_response",
}
ENDS = re.compile(r"(?<!\b\w\.)(?<=[.!?:;>)\]`\"\u201d])\Z")
"""How a part ends that is whole: a sentence, but no initial such as J., a tag, fenced code."""

MARKS = ("<", "#", "`")
"""How a part begins that is whole, unless with a capital."""

DETAILS = "reasoning_details"
IDS = ("tool_use_id", "toolUseId", "id")


@dataclass(slots=True, kw_only=True)
class Parts:
    """What the parts of one message say."""

    text: str = ""
    thoughts: str = ""
    calls: list[Any] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    """Messages of role tool."""


def parts_of(parts: list[Any], who: str) -> Parts:
    """Take the parts of a message together. Raises RowInvalid for images, audio and whatever else is no text."""
    found = Parts()
    foreign = sorted({_kind(part) for part in parts} - KNOWN)
    if foreign or not parts:
        raise RowInvalid(
            f'{who} holds {", ".join(foreign) or "nothing"}: only parts such as {{"type": "text", "text": ...}} are trained, so '
            "remove the others, or such rows"
        )
    for part in parts:
        _add(part, _kind(part), found, who)
    return found


def detailed_thoughts(said: dict[str, Any]) -> str:
    """Return the reasoning that OpenRouter keeps in parts of its own; empty where some of it is encrypted."""
    details = said.get(DETAILS)
    texts = (
        [part.get("text") if isinstance(part, dict) else None for part in details] if isinstance(details, list) else []
    )
    return "".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else ""


def is_parts(value: Any) -> bool:
    """Tell parts of a message from what a tool returned: any object or list."""
    items = value.get("parts", [value]) if isinstance(value, dict) else value
    return bool(items) and all(isinstance(part, dict) and (_kind(part) in KNOWN or "type" in part) for part in items)


def _kind(part: Any) -> str:
    if not isinstance(part, dict):
        return type(part).__name__
    if isinstance(part.get("type"), str):
        return str(part["type"])
    return next((key for key in UNTYPED if key in part), "") or next(iter(map(str, part)), "nothing")


def _add(part: dict[str, Any], kind: str, found: Parts, who: str) -> None:
    if kind in TEXT:
        text = _text(part, "text", who)
        if part.get("thought") is True:
            found.thoughts += text
        else:
            found.text = f"{found.text}{_between(found.text, text)}{text}"
    elif kind == "thinking":
        found.thoughts += _text(part, "thinking", who)
    elif kind == "reasoningContent":
        inner = part["reasoningContent"]
        found.thoughts += _text(inner.get("reasoningText") if isinstance(inner, dict) else None, "text", who)
    elif kind in CALLS:
        found.calls += calls_of(_renamed(part.get(CALLS[kind], part)), who)
    else:
        found.results.append(_result(part.get(RESULTS[kind], part), who))


def _between(before: str, after: str) -> str:
    """Parts follow each other as they are, for answers are parted anywhere; only two sentences do not run into each other."""
    begins = after[:1].isupper() or after.startswith(MARKS)
    return "\n" if begins and ENDS.search(before) else ""


def _text(part: Any, key: str, who: str) -> str:
    if not isinstance(part, dict) or not isinstance(part.get(key), str):
        raise RowInvalid(f"{who} has a part of type text without text")
    return str(part[key])


def _renamed(call: Any) -> Any:
    """Anthropic and Bedrock spell the id of a call in their own ways."""
    if not isinstance(call, dict):
        return call
    given = [call[key] for key in IDS if key in call]
    return {
        **({"id": given[0]} if given else {}),
        **{key: value for key, value in call.items() if key not in (*IDS, "type")},
    }


def _result(result: Any, who: str) -> dict[str, Any]:
    if not isinstance(result, dict):
        raise RowInvalid(f"{who} has a tool result that is not an object")
    named = {key: result["name"] for key in ("name",) if isinstance(result.get("name"), str)}
    call = next((str(result[key]) for key in IDS if result.get(key)), "")
    content = result.get("content", result.get("response", ""))
    return {"role": "tool", "content": _said(content, who), **({"tool_call_id": call} if call else {}), **named}


def _said(content: Any, who: str) -> str:
    """A result is text, parts of text, or an object, which stands in the prompt as JSON."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        plain = [part for part in content if "json" not in part]
        told = [json.dumps(part["json"], ensure_ascii=False) for part in content if "json" in part]
        return "".join([parts_of(plain, who).text if plain else "", *told])
    return json.dumps(content, ensure_ascii=False)


UNTYPED = ("text", "reasoningContent", *(key for key in (*CALLS, *RESULTS) if key not in ("tool_use", "tool_result")))
KNOWN = {*TEXT, "thinking", "reasoningContent", *CALLS, *RESULTS}
