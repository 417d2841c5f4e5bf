"""Tool calls in the words of a model: read back from the forms in which chat templates write them, and compared. Called by results.

Whether a template's form is read is tried on the references before any GPU is used (data.questions).
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from finetune_trainer.evaluation.scores.texts import THOUGHT_ENDS

Call = Mapping[str, Any]
"""name and arguments"""

ARGUMENTS = ("arguments", "parameters", "args", "input", "kwargs")
TAGGED = re.compile(r"<function=([\w.-]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
"""Qwen3-Coder, Llama 3.1's and Functionary's own form."""
PARAMETER = re.compile(r"<parameter=([^>]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
KEYED = re.compile(
    r"<tool_call>\s*([\w.-]+)\s*((?:<arg_key>.*?</arg_key>\s*<arg_value>.*?</arg_value>\s*)*)</tool_call>", re.DOTALL
)
"""GLM"""
ARGUMENT = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
NAME_FIRST = (
    re.compile(r"([\w.-]+)(?:\[CALL_ID\]\w+)?\[ARGS\](?=\s*\{)"),  # Mistral
    re.compile(r"<｜tool▁sep｜>([\w.-]+)\s*```json\s*(?=\{)"),  # DeepSeek V3  # noqa: RUF001 - its own marks
    re.compile(r"<｜tool▁call▁begin｜>([\w.-]+)<｜tool▁sep｜>(?=\s*\{)"),  # DeepSeek V3.1  # noqa: RUF001 - the same
    re.compile(r"to=functions\.([\w.-]+).*?<\|message\|>(?=\s*\{)"),  # gpt-oss
)
"""A name, then its arguments as JSON."""


def calls_in(text: str) -> list[Call]:
    """Return the calls in what a model said, special tokens included."""
    text = text.rpartition(THOUGHT_ENDS)[2]
    for form in (_tagged, _keyed, _name_first, _objects, _pythonic):
        if found := list(form(text)):
            return found
    return []


def call(name: Any, arguments: Any) -> Call:
    """Return a call; arguments may be JSON text."""
    if isinstance(arguments, str):
        arguments = _value(arguments)
    return {"name": str(name), "arguments": {} if arguments in (None, "") else arguments}


def same_calls(found: Sequence[Call], wanted: Sequence[Call]) -> float:
    """Say whether the same functions are called with the same arguments, in any order."""
    return float(_sorted(found) == _sorted(wanted))


def same_functions(found: Sequence[Call], wanted: Sequence[Call]) -> float:
    """Say whether the same functions are called, in any order."""
    return float(sorted(one["name"] for one in found) == sorted(one["name"] for one in wanted))


def _sorted(calls: Sequence[Call]) -> list[str]:
    return sorted(json.dumps(_plain(one), sort_keys=True) for one in calls)


def _plain(value: Any) -> Any:
    """Numbers are compared by value: 5 is 5.0."""
    match value:
        case bool() | None | str():
            return value
        case int() | float():
            return float(value)
        case list() | tuple():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case _:
            return str(value)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _tagged(text: str) -> Iterator[Call]:
    for name, body in TAGGED.findall(text):
        pairs = PARAMETER.findall(body)
        yield call(name, {key: _value(value) for key, value in pairs} if pairs else body.strip())


def _keyed(text: str) -> Iterator[Call]:
    for name, body in KEYED.findall(text):
        yield call(name, {key.strip(): _value(value) for key, value in ARGUMENT.findall(body)})


def _name_first(text: str) -> Iterator[Call]:
    for form in NAME_FIRST:
        for found in form.finditer(text):
            values = list(_json_values(text[found.end() :]))
            if values:
                yield call(found[1], values[0])


def _objects(text: str) -> Iterator[Call]:
    for value in _json_values(text):
        for item in value if isinstance(value, list) else [value]:
            yield from _object(item)


def _object(item: Any) -> Iterator[Call]:
    if not isinstance(item, dict):
        return
    if isinstance(item.get("tool_calls"), list):
        for inner in item["tool_calls"]:
            yield from _object(inner)
        return
    function = item.get("function")
    described = function if isinstance(function, dict) else item
    name = described.get("name") or (function if isinstance(function, str) else None)
    if name:
        yield call(name, next((described[key] for key in ARGUMENTS if key in described), None))


def _json_values(text: str) -> Iterator[Any]:
    """Yield the objects and lists that stand in a text, outermost only."""
    decoder, position = json.JSONDecoder(), 0
    while (opening := re.search(r"[{\[]", text[position:])) is not None:
        start = position + opening.start()
        try:
            value, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
            continue
        yield value


def _pythonic(text: str) -> Iterator[Call]:
    """Llama 4 and OLMo write `[name(argument=value)]`."""
    found = re.search(r"\[\s*[\w.]+\(.*\)\s*\]", text, re.DOTALL)
    try:
        parsed = ast.parse(found[0], mode="eval").body if found else None
        for one in parsed.elts if isinstance(parsed, ast.List) else []:
            if isinstance(one, ast.Call):
                arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in one.keywords if keyword.arg}
                yield call(ast.unparse(one.func), arguments)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return
