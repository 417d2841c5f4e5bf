"""Tool calls and tools, in the forms of OpenAI (old and new), Anthropic, Bedrock, Gemini and xLAM, become one."""

import re
from typing import Any

from finetune_trainer.data.formats.invalid import RowInvalid, parsed
from finetune_trainer.data.formats.names import is_empty
from finetune_trainer.data.reading.record import kind

ONLY_NAMED = "{} (names alone)"
"""How a warning calls a column of tools without their descriptions."""

AS_TOOLS = (
    'write each as {"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}} in a list, or rename '
    "the column to train without it"
)

AS_CALLS = 'write each as {"name": ..., "arguments": {...}}'
CALL_TAG = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
TAGGED = re.compile(rf"(\s*{CALL_TAG.pattern})+\s*", re.DOTALL)
"""Calls as Hermes and Qwen write them, each in tags."""

ARGUMENTS = ("arguments", "args", "input", "parameters")
SCHEMAS = ("parameters", "input_schema", "inputSchema")
DECLARATIONS = ("functionDeclarations", "function_declarations")


def calls_of(value: Any, who: str) -> list[Any]:
    """Return tool calls as templates expect them: a function with its name and arguments as an object. Raises RowInvalid."""
    if isinstance(value, str) and TAGGED.fullmatch(value):
        value = [parsed(one, f"{who}: its tool calls", else_=AS_CALLS) for one in CALL_TAG.findall(value)]
    if isinstance(value, str):
        value = parsed(value, f"{who}: its tool calls", else_=AS_CALLS) if value.strip() else []
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise RowInvalid(f"{who} has tool calls that are {kind(value)}, not a list")
    return [_call(call, who) for call in value]


def _call(call: Any, who: str) -> Any:
    described = call.get("function", call) if isinstance(call, dict) else None
    if isinstance(described, str):
        described = {**call, "name": described}  # {"function": "look", "arguments": ...}
    if not isinstance(described, dict) or not isinstance(described.get("name"), str) or not described["name"]:
        raise RowInvalid(f"{who} has a tool call without a function name")
    key = next((key for key in ARGUMENTS if key in described), "")
    function = {"name": described["name"], "arguments": _arguments(described.get(key), who)}
    if isinstance(call.get("function"), dict):
        return {**{name: value for name, value in call.items() if value is not None}, "function": function}
    named = {"id": call["id"]} if call.get("id") else {}
    return {**named, "type": "function", "function": function}


def _arguments(value: Any, who: str) -> Any:
    """Arguments as an object; some files hold them as JSON text, and none as an empty one."""
    if is_empty(value):
        return {}
    if isinstance(value, str):
        value = parsed(
            value, f"{who}: its tool call arguments", else_='write them as an object, such as {"city": "Rome"}'
        )
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RowInvalid(f"{who} has tool call arguments that are {kind(value)}, not an object")
    return value


def tools_of(value: Any) -> list[Any] | None:
    """Return the tools that may be called, each as a function; None where there are none. Raises RowInvalid."""
    if isinstance(value, str):
        value = parsed(value, "its tools", else_=AS_TOOLS) if value.strip() else None
    if isinstance(value, dict) and isinstance(value.get("tools"), list):
        value = value["tools"]  # Bedrock's toolConfig
    if isinstance(value, dict) and any(key in value for key in DECLARATIONS):
        value = [value]
    if isinstance(value, dict) and ("function" in value or any(key in value for key in SCHEMAS)):
        value = [value]
    if value and not isinstance(value, list):
        raise RowInvalid(f"its tools are {kind(value)}, not a list of tools: {AS_TOOLS}")
    return [tool for item in value or () for tool in _tools(item)] or None


def are_names(value: Any) -> bool:
    """Tell names of tools from tools: a template has nothing to write about them."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) and item[:1] != "{" for item in value)


def _tools(item: Any) -> list[Any]:
    if isinstance(item, str):
        item = parsed(item, "its tools", else_=AS_TOOLS)
    if not isinstance(item, dict):
        raise RowInvalid(f"its tools hold {kind(item)}: {AS_TOOLS}")
    declared = next((item[key] for key in DECLARATIONS if isinstance(item.get(key), list)), None)
    if declared is not None:
        return [tool for one in declared for tool in _tools(one)]
    described = item.get("toolSpec", item)
    if "function" in described or not isinstance(described.get("name"), str):
        return [item]
    key = next((key for key in SCHEMAS if key in described), "")
    if not key:
        return (
            [{"type": "function", "function": described}]
            if "type" not in item or item["type"] == "function"
            else [item]
        )
    schema = described[key].get("json", described[key]) if isinstance(described[key], dict) else described[key]
    rest = {name: part for name, part in described.items() if name not in (key, "type")}
    return [{"type": "function", "function": {**rest, "parameters": schema}}]
