"""Conversations as APIs and data sets keep them: each is read as what it means, or refused; nothing is dropped."""

import json
from pathlib import Path
from typing import Any

import pytest
import trl
from finetune_contract import Chat, Columns, Dataset
from finetune_trainer.data.formats.invalid import RowInvalid
from finetune_trainer.data.formats.messages import TurnForm, turns_of

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, rows_of, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

ASKED = {"role": "user", "content": "hello"}
CALL = {"type": "function", "function": {"name": "look", "arguments": {"city": "Paris"}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "sunny"}


def messages_of(*turns: Any, **form: Any) -> list[dict[str, Any]]:
    """What is made of some turns."""
    return turns_of(list(turns), TurnForm(**form)).messages


def family(name: str) -> Any:
    """A small tokenizer with the chat template of a family, as TRL ships it."""
    template = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()
    ends = {"llama3_1": "<|eot_id|>", "llama3_2": "<|eot_id|>", "phi3": "<|end|>", "gptoss": "<|return|>"}
    words = tokenizer(template, bos_token="<s>", eos=ends.get(name, "<|im_end|>"))
    words.add_special_tokens({"additional_special_tokens": ["<|end|>", "<|return|>", "<|call|>"]})
    return words


@pytest.mark.parametrize(
    ("word", "role"),
    [
        ("human", "user"), ("Human", "user"), ("USER", "user"), ("prompter", "user"), ("gpt", "assistant"),
        ("ASSISTANT", "assistant"), ("CHATBOT", "assistant"), ("bot", "assistant"), ("model", "assistant"),
        ("ai", "assistant"), ("System", "system"), ("developer", "developer"), ("ipython", "tool"), ("observation", "tool"),
        ("function", "tool"), ("tool_response", "tool"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("role_key", "content_key"),
    [("role", "content"), ("from", "value"), ("role", "value"), ("from", "content"), ("speaker", "text")],
)
def test_words_for_roles_are_known_under_any_key(word, role, role_key, content_key):
    """ShareGPT, OpenAI, Llama, Gemini, Cohere and OASST each have their own."""
    assert messages_of({role_key: word, content_key: "x"}) == [{"role": role, "content": "x"}]


def test_words_that_nobody_knows_are_mapped_by_the_job():
    """The refusal names all of them, and what it suggests works."""
    turns = [{"speaker": "Dr. X", "text": "hello"}, {"speaker": "B", "text": "fine"}]

    with pytest.raises(RowInvalid) as refusal:
        messages_of(*turns)

    assert str(refusal.value) == (
        "message 1 has the role 'Dr. X', which is unknown: map it with datasets[].roles, such as "
        'roles: {user: ["Dr. X"], assistant: ["B"]}'
    )
    assert messages_of(*turns, roles={"Dr. X": "user", "B": "assistant"}) == said("hello", "fine")


@pytest.mark.parametrize(
    ("key", "asks", "suggested"),
    [
        ("is_human", True, 'roles: {user: ["true"], assistant: ["false"]}'),
        ("is_human", False, 'roles: {user: ["true"], assistant: ["false"]}'),
        ("from_bot", False, 'roles: {user: ["false"], assistant: ["true"]}'),
    ],
)
def test_a_truth_value_says_who_speaks_by_the_name_of_its_key(key, asks, suggested):
    """Whoever speaks first: in role play it is the character."""
    with pytest.raises(RowInvalid) as refusal:
        messages_of({key: asks, "text": "hello"}, {key: not asks, "text": "fine"}, role=key, content="text")

    assert str(refusal.value).endswith(f"map it with datasets[].roles, such as {suggested}")


SAME = [
    ("legacy function call", [{"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": '{"city": "Paris"}'}}]),
    ("calls as JSON text", [{"role": "assistant", "content": "", "tool_calls": json.dumps([CALL])}]),
    ("flat calls", [{"role": "assistant", "content": None, "tool_calls": [{"name": "look", "arguments": {"city": "Paris"}}]}]),
    ("ShareGPT", [{"from": "function_call", "value": '{"name": "look", "arguments": {"city": "Paris"}}'}]),
    ("Anthropic", [{"role": "assistant", "content": [{"type": "tool_use", "name": "look", "input": {"city": "Paris"}}]}]),
    ("Bedrock", [{"role": "assistant", "content": [{"toolUse": {"name": "look", "input": {"city": "Paris"}}}]}]),
    ("Gemini", [{"role": "model", "parts": [{"functionCall": {"name": "look", "args": {"city": "Paris"}}}]}]),
]  # fmt: skip


@pytest.mark.parametrize(("api", "turns"), SAME, ids=[api for api, _ in SAME])
def test_a_tool_call_is_the_same_in_every_api(api, turns):
    """So one chat template writes it."""
    assert messages_of(*turns) == [CALLING]


@pytest.mark.parametrize(("arguments", "read"), [("", {}), (None, {}), ("{}", {}), ('{"a": 1}', {"a": 1})])
def test_arguments_may_be_text_or_missing(arguments, read):
    """OpenAI sends an empty text for a function without parameters."""
    call = {"function": {"name": "look", "arguments": arguments}}

    (message,) = messages_of({"role": "assistant", "content": None, "tool_calls": [call]})

    assert message["tool_calls"] == [{"function": {"name": "look", "arguments": read}}]


RESULTS = [
    ("OpenAI", {"role": "tool", "tool_call_id": "c1", "content": "sunny"}),
    ("Anthropic", {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "sunny"}]}),
    ("Bedrock", {"role": "user", "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "sunny"}]}}]}),
]


@pytest.mark.parametrize(("api", "turn"), RESULTS, ids=[api for api, _ in RESULTS])
def test_the_result_of_a_tool_is_the_same_in_every_api(api, turn):
    """Anthropic and Bedrock let the user say it."""
    assert messages_of(turn) == [{"role": "tool", "tool_call_id": "c1", "content": "sunny"}]


@pytest.mark.parametrize("returned", [{"degrees": 20}, [1, 2], [{"degrees": 20}]])
def test_what_a_tool_returned_as_an_object_is_json(returned):
    """As a server would write it."""
    assert messages_of({"role": "tool", "content": returned}) == [{"role": "tool", "content": json.dumps(returned)}]


def test_words_beside_a_result_are_said_by_the_user():
    """Both are kept."""
    turn = {
        "role": "user",
        "content": [{"type": "tool_result", "content": "sunny"}, {"type": "text", "text": "and now?"}],
    }

    assert messages_of(turn) == [RESULT, {"role": "user", "content": "and now?"}]


def test_thoughts_in_parts_are_reasoning():
    """Anthropic's and Gemini's."""
    for parts in (
        [{"type": "thinking", "thinking": "red"}, {"type": "text", "text": "blue"}],
        [{"text": "red", "thought": True}, {"text": "blue"}],
    ):
        assert messages_of({"role": "assistant", "content": parts}) == [
            {"role": "assistant", "content": "blue", "reasoning_content": "red"}
        ]


def test_keys_that_are_null_or_empty_are_as_if_absent():
    """As OpenAI's library dumps its messages: templates ask only whether a key is there."""
    empty = {"tool_calls": None, "function_call": None, "refusal": None, "annotations": [], "name": None, "audio": None}

    assert messages_of({**ASKED, **empty}, {"role": "assistant", "content": "fine", **empty, "tool_calls": []}) == said(
        "hello", "fine"
    )


REFUSED = [
    ({"role": "assistant", "content": None, "refusal": "no"},
     "message 1 has a refusal and no content: put its text into content to learn it, or remove the row"),
    ({"role": "assistant", "content": None}, "message 1 (assistant) has no text in content"),
    ({"role": "user", "content": 4}, "message 1 has content that is the number 4, not text"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
     'message 1 holds image_url: only parts such as {"type": "text", "text": ...} are trained, so remove the others, or such rows'),
    ({"role": "assistant", "content": "x", "weight": 0.5},
     "message 1 has weight 0.5: only 0 (context) and 1 (learned) are read, so remove it or use one of them"),
    ({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
     'message 1: its tool call arguments are text that is not JSON: write them as an object, such as {"city": "Rome"}'),
    ({"role": "user", "content": "", "tool_calls": [CALL]},
     "message 1 (user) has tool calls, which only the assistant can make"),
    ({"from": "function_call", "value": "look at Paris"},
     'message 1: its tool calls are text that is not JSON: write each as {"name": ..., "arguments": {...}}'),
]  # fmt: skip


@pytest.mark.parametrize(("turn", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_a_turn_that_cannot_be_learned_is_refused_in_words(turn, message):
    """What is wrong, and where there is one, what to do."""
    with pytest.raises(RowInvalid) as refusal:
        messages_of(turn)

    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("key", "off", "on"),
    [
        ("weight", 0, 1),
        ("weight", 0.0, 1.0),
        ("train", False, True),
        ("loss_mask", "0", "1"),
        ("training", "false", "true"),
    ],
)
def test_an_answer_that_is_switched_off_is_context(tmp_path, key, off, on):
    """OpenAI's weight and its relatives."""
    turns = said("hello", "bad", "how", "fine")
    turns[1][key], turns[3][key] = off, on

    ((whole, learned),) = rows_of(tmp_path, jsonl(tmp_path / "a.jsonl", [{"messages": turns}]))

    assert ("bad" in whole, learned) == (True, "fine<|im_end|>")


def test_an_answer_that_is_switched_off_cannot_be_learned_by_train_on_all(tmp_path):
    """One of the two must give way, and it is for the user to say which."""
    turns = said("hello", "bad")
    turns[1]["weight"] = 0

    reason, message = refusal_of(
        tmp_path, jsonl(tmp_path / "a.jsonl", [{"messages": turns}]), chat=Chat(train_on="all")
    )

    assert (reason, message) == (
        "DatasetInvalid",
        "file:///a.jsonl: a.jsonl row 1: it takes answers out of the loss (weight, train), but chat.trainOn: all trains on "
        "everything: use assistant",
    )


def test_a_switch_on_what_is_no_answer_is_told(tmp_path):
    """axolotl could learn a question; here only answers are learned."""
    turns = said("hello", "fine")
    turns[0]["train"] = True
    file = jsonl(tmp_path / "a.jsonl", [{"messages": turns}])

    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings == (
        f"file://{file} holds data that is not used: messages[].train of role user in 1 (of 1 rows). Rows are trained "
        "without it: add it to the question or the answer if it matters",
    )


DEVELOPER = {"role": "developer", "content": "answer in green"}


@pytest.mark.parametrize("name", ["qwen2_5", "phi3", "llama3_1", "gptoss"])
def test_a_developer_message_is_always_written(tmp_path, name):
    """As system, beside a system message too, unless the template has a form of its own."""
    rows = [
        {"messages": [DEVELOPER, *said("hello", "fine")]},
        {"messages": [{"role": "system", "content": "be kind"}, DEVELOPER, *said("how", "fine")]},
    ]
    if name == "gptoss":
        del rows[1]
    written = [whole for whole, _ in rows_of(tmp_path, jsonl(tmp_path / "a.jsonl", rows), words=family(name))]

    assert all("answer in green" in whole for whole in written)
    assert name == "gptoss" or "be kind" in written[1]


@pytest.mark.parametrize("role", ["tool", "function", "ipython"])
def test_a_result_that_the_template_would_drop_is_refused(tmp_path, role):
    """Also where its word stands in the answer by chance."""
    turns = [
        *said("look", "one moment"),
        {"role": role, "content": "sunny"},
        {"role": "assistant", "content": "it is sunny"},
    ]
    file = jsonl(tmp_path / "a.jsonl", [{"messages": turns}])

    assert refusal_of(tmp_path, file, words=family("phi3"))[1] == (
        "file:///a.jsonl: a.jsonl row 1: the chat template leaves out what message 3 (tool) says: use a model whose chat "
        "template writes tools, or set chat.templateSource to a template that does, or remove the message"
    )
    ((whole, _),) = rows_of(tmp_path, file, words=family("llama3_1"))
    assert '<|start_header_id|>ipython<|end_header_id|>\n\n"sunny"' in whole


def test_reasoning_of_earlier_answers_that_is_left_out_is_told(tmp_path):
    """Qwen3 writes it for the last answer only, in training as on a server."""
    turns = said("a", "b", "c", "d")
    turns[1]["reasoning_content"] = "red"
    request = a_request(jsonl(tmp_path / "a.jsonl", [{"messages": turns}]), chat=Chat(train_on="last"))

    assert prepared_rows(request, family("qwen3"), tmp_path / "work").warnings == (
        "1 of 1 rows: the chat template drops the reasoning of earlier answers, or their words beside tool calls, as it does when "
        "the model is served",
    )


def test_keys_of_messages_are_named_by_the_job(tmp_path):
    """Whoever exported the data chose them."""
    file = jsonl(tmp_path / "a.jsonl", [{"log": [{"who": "human", "words": "hello"}, {"who": "ai", "words": "fine"}]}])
    dataset = Dataset(location=at(file), columns=Columns(messages="log", role="who", content="words"))

    assert rows_of(tmp_path, datasets=(dataset,))[0][1] == "fine<|im_end|>"


TOOL = {"name": "look", "description": "d", "parameters": {"type": "object", "properties": {}}}
TOOLS = [
    ("OpenAI", {"tools": [{"type": "function", "function": TOOL}]}),
    ("legacy", {"functions": [TOOL]}),
    ("as text", {"tools": json.dumps([TOOL])}),
    ("Anthropic", {"tools": [{"name": "look", "description": "d", "input_schema": TOOL["parameters"]}]}),
    ("Gemini", {"tools": [{"functionDeclarations": [TOOL]}]}),
    ("Bedrock", {"toolConfig": {"tools": [
        {"toolSpec": {"name": "look", "description": "d", "inputSchema": {"json": TOOL["parameters"]}}}
    ]}}),
]  # fmt: skip


@pytest.mark.parametrize(("api", "column"), TOOLS, ids=[api for api, _ in TOOLS])
def test_tools_are_the_same_in_every_api(tmp_path, api, column):
    """Also where only later rows have some."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said("a", "b")}, {"messages": said("hello", "fine"), **column}])

    without, with_tools = rows_of(tmp_path, file, words=family("qwen2_5"), length_limit=4096)

    assert "look" not in without[0]
    assert json.dumps({"type": "function", "function": TOOL}) in with_tools[0]
