"""Data whose texts hold tools, calls and results in tags already: each stands once in what is trained."""

import json

import pytest

from tests.trainer.data_inputs import a_request, jsonl, prepared_rows, rows_of, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'tool' %}<tool_response>\n{{ m['content'] }}\n</tool_response>{% else %}{{ m['content'] }}{% endif %}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
)
TOOL = {"type": "function", "function": {"name": "look", "description": "Look", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "find", "description": "Find", "parameters": {"type": "object"}}}
SPELLINGS = {
    "list": f"<tools>\n{json.dumps([TOOL])}\n</tools>",
    "line": f"<tools>{json.dumps(TOOL)}</tools>",
    "bare": f"<tools>{json.dumps(TOOL['function'])}</tools>",
    "without tags": f"You may call: {json.dumps(TOOL['function'], indent=2)}.",
}


def _turns(system: str, result: str = "fine") -> list[dict[str, str]]:
    said = (("system", system), ("human", "hello"), ("gpt", "red"), ("tool", result), ("gpt", "blue"))
    return [{"from": role, "value": text} for role, text in said]


@pytest.mark.parametrize("system", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("column", [json.dumps([TOOL]), [TOOL], [TOOL["function"]]], ids=["text", "list", "bare list"])
def test_tools_that_the_system_prompt_holds_are_not_written_twice(tmp_path, system, column):
    """They are trained as the data has them, and the warning says what a server does."""
    file = jsonl(tmp_path / "a.jsonl", [{"conversations": _turns(system), "tools": column}])

    (text, _), *_ = rows_of(tmp_path, file, words=tokenizer(TEMPLATE))
    assert text.startswith(f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user")
    assert [
        one
        for one in prepared_rows(a_request(file), tokenizer(TEMPLATE), tmp_path / "again").warnings
        if "tools" in one
    ] == [
        "1 of 1 rows (100.0 %) hold their tools in the system prompt, too, first a.jsonl row 1: they are trained with that text, and the "
        "chat template does not write the tools again. If the model is served with tools, take them out of the system prompts: the "
        "template then writes them as it does when it is served"
    ]


def test_other_tools_than_those_of_the_system_prompt_are_written(tmp_path):
    """Nothing is lost where the two differ, be it by one tool."""
    file = jsonl(tmp_path / "a.jsonl", [{"conversations": _turns(SPELLINGS["list"]), "tools": [TOOL, OTHER]}])

    (text, _), *_ = rows_of(tmp_path, file, words=tokenizer(TEMPLATE))
    assert text.startswith(
        f"<|im_start|>system\n{json.dumps(TOOL)}{json.dumps(OTHER)}<|im_end|>\n<|im_start|>system\n<tools>"
    )
    assert prepared_rows(a_request(file), tokenizer(TEMPLATE), tmp_path / "again").warnings == ()


@pytest.mark.parametrize(
    ("result", "written"),
    [
        ("<tool_response>\nfine\n</tool_response>", "<tool_response>\nfine\n</tool_response>"),
        (
            "<tool_response>\nfine\n</tool_response>\n<tool_response>\nred\n</tool_response>",
            "<tool_response>\nfine\n</tool_response>\n<tool_response>\nred\n</tool_response>",
        ),
        ("say <tool_response>", "<tool_response>\nsay <tool_response>\n</tool_response>"),
    ],
    ids=["one", "two", "inside"],
)
def test_results_in_tags_are_wrapped_once(tmp_path, result, written):
    """A template that writes no tags leaves the text as it is."""
    file = jsonl(tmp_path / "a.jsonl", [{"conversations": _turns("hello", result)}])
    plain = TEMPLATE.replace("<tool_response>\n", "").replace("\n</tool_response>", "")

    assert f"<|im_start|>tool\n{written}<|im_end|>" in rows_of(tmp_path, file, words=tokenizer(TEMPLATE))[0][0]
    assert f"<|im_start|>tool\n{result}<|im_end|>" in rows_of(tmp_path / "plain", file, words=tokenizer(plain))[0][0]


def test_turns_of_calls_in_tags_are_read(tmp_path):
    """Each call in tags of its own, as Hermes writes several."""
    calls = "\n".join(
        f'<tool_call>\n{{"name": "{name}", "arguments": {{}}}}\n</tool_call>' for name in ("look", "find")
    )
    turns = [{"from": "human", "value": "hello"}, {"from": "function_call", "value": calls}]
    file = jsonl(tmp_path / "a.jsonl", [{"conversations": turns}])

    learned = "<|im_start|>assistant\n<tool_call>look</tool_call><tool_call>find</tool_call><|im_end|>"
    assert [answer for _, answer in rows_of(tmp_path, file, words=tokenizer(TEMPLATE))] == [learned]
