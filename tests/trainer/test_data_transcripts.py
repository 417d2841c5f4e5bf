"""Conversations written out as text: split at the marks of the template or script that wrote them, or told apart from one answer."""

import json
import subprocess

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, rows_of, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")


def rendered(*turns):
    """(whole text, trained text) of turns such as `user hello`."""
    parts = [turn.split(" ", 1) for turn in turns]
    whole = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in parts)
    return whole, "".join(f"{text}<|im_end|>" for role, text in parts if role == "assistant")


ALL = ("system red", "user hello", "assistant fine", "user how", "assistant thanks")
WRITTEN = [
    ("Vicuna", "red USER: hello ASSISTANT: fine</s>USER: how ASSISTANT: thanks</s>", ALL),
    ("ChatML", "<|im_start|>system\nred<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n"
     "<|im_start|>user\nhow<|im_end|>\n<|im_start|>assistant\nthanks<|im_end|>", ALL),
    ("Llama 2", "<s>[INST] <<SYS>>\nred\n<</SYS>>\n\nhello [/INST] fine </s><s>[INST] how [/INST] thanks </s>", ALL),
    ("Llama 3", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhello<|eot_id|>"
     "<|start_header_id|>assistant<|end_header_id|>\n\nfine<|eot_id|>", ALL[1:3]),
    ("Gemma", "<bos><start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\nfine<end_of_turn>\n", ALL[1:3]),
    ("Zephyr", "<|system|>\nred</s>\n<|user|>\nhello</s>\n<|assistant|>\nfine</s>", ALL[:3]),
    ("Guanaco", "### Human: hello### Assistant: fine### Human: how### Assistant: thanks", ALL[1:]),
    ("Alpaca", "red\n\n### Instruction:\nhello\n\n### Input:\nblue\n\n### Response:\nfine",
     ("system red", "user hello\n\nblue", "assistant fine")),
    ("Claude", "\n\nHuman: hello\n\nAssistant: fine\n\nHuman: how\n\nAssistant: thanks", ALL[1:]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "turns"), WRITTEN, ids=[kind for kind, *_ in WRITTEN])
def test_a_conversation_that_is_written_out_is_split_at_its_marks(tmp_path, kind, text, turns):
    """Where its column is the one of the messages, named so or by the job; else the warning says to name it."""
    named = Dataset(location=at(jsonl(tmp_path / "a.jsonl", [{"text": text}])), columns=Columns(messages="text"))

    assert rows_of(tmp_path, jsonl(tmp_path / "b.jsonl", [{"conversation": text}])) == [rendered(*turns)]
    assert rows_of(tmp_path, datasets=(named,)) == [rendered(*turns)]
    assert (
        "name it in columns.messages"
        in prepared_rows(a_request(tmp_path / "a.jsonl"), tokenizer(), tmp_path / "w").warnings[-1]
    )


def test_the_calls_of_glaive_are_turns_of_their_own(tmp_path):
    """Its system prompt stands beside them, with a mark of its own."""
    chat = (
        'USER: hello\n\n\nASSISTANT: <functioncall> {"name": "f"} <|endoftext|>\n\n\nFUNCTION RESPONSE: {"x": 1}\n\n\n'
        "ASSISTANT: fine <|endoftext|>"
    )

    assert rows_of(tmp_path, jsonl(tmp_path / "a.jsonl", [{"system": "SYSTEM: red", "chat": chat}])) == [
        rendered(
            "system red", "user hello", 'assistant <functioncall> {"name": "f"}', 'tool {"x": 1}', "assistant fine"
        )
    ]


NOT_IN_TURNS = [
    "USER: hello",
    "USER: a USER: b ASSISTANT: c",
    "USER: a ASSISTANT: b ASSISTANT: c",
    "hello\nUser: a\nAssistant: b",
]


@pytest.mark.parametrize("text", NOT_IN_TURNS)
def test_a_text_whose_marks_do_not_alternate_is_not_split(tmp_path, text):
    """A mark may be a part of what somebody said."""
    file = jsonl(tmp_path / "a.jsonl", [{"chat": text}])
    named = Dataset(location=at(file), columns=Columns(messages="chat"))

    assert refusal_of(tmp_path, datasets=(named,))[1] == (
        "file:///a.jsonl: a.jsonl row 1: its messages are text that is not JSON: write each conversation as a list of objects with role "
        "and content, or as turns such as USER: and ASSISTANT: that alternate"
    )


def test_a_transcript_that_is_named_as_an_answer_is_warned_of(tmp_path):
    """One answer that holds questions would teach the model to ask itself."""
    file = jsonl(tmp_path / "a.jsonl", [{"q": "red", "chat": "USER: hello\n\nASSISTANT: fine"}])
    named = Dataset(location=at(file), columns=Columns(prompt="q", completion="chat"))

    (warning,) = prepared_rows(a_request(datasets=(named,)), tokenizer(), tmp_path / "work").warnings
    assert warning.startswith("1 of 1 rows (100.0 %) hold turns that are already rendered")


def test_texts_that_say_who_speaks_are_turns(tmp_path):
    """A list of them."""
    file = jsonl(tmp_path / "a.jsonl", [{"conversations": ["User: hello", "Assistant: fine"]}])

    assert rows_of(tmp_path, file) == [rendered("user hello", "assistant fine")]


def test_lines_in_the_notation_of_python_are_converted_as_the_message_says(tmp_path):
    """The command is tried as it stands."""
    rows = [{"prompt": "it's hello", "completion": "fine", "x": None}]
    (tmp_path / "OLD.jsonl").write_text("".join(f"{row}\n" for row in rows))
    message = refusal_of(tmp_path, tmp_path / "OLD.jsonl")[1]
    begin = (
        "file:///OLD.jsonl: OLD.jsonl row 1: it is written as a Python dict, not as JSON (single quotes, None, True): convert "
        "the file with "
    )

    assert message.startswith(begin)
    subprocess.run(["/bin/sh", "-c", message.removeprefix(begin)], cwd=tmp_path, check=True)
    assert [json.loads(line) for line in (tmp_path / "NEW.jsonl").read_text().splitlines()] == rows


ADVISED = [
    ({"id": "0", "data": ["hello", "fine"]}, {"messages": "data"},
     "columns: {messages: data}, if its texts are a question, its answer, and so on"),
    ({"translation": {"en": "hello", "fr": "fine"}}, {"prompt": "translation.en", "completion": "translation.fr"},
     "columns: {prompt: translation.en, completion: translation.fr}, or the other way round"),
    ({"question": "hello", "answers": ["fine", "x"]}, {"prompt": "question", "completion": "answers.0"},
     "columns: {prompt: question, completion: answers.0}, which learns the first answer of each question"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "fields", "advice"), ADVISED, ids=["UltraChat", "a translation", "several answers"])
def test_what_lies_inside_a_column_is_advised_and_works(tmp_path, record, fields, advice):
    """As the message says."""
    file = jsonl(tmp_path / "a.jsonl", [record])

    assert refusal_of(tmp_path, file)[1].endswith(f"such as {advice}")
    named = Dataset(location=at(file), columns=Columns(**fields))
    assert rows_of(tmp_path, datasets=(named,)) == [rendered("user hello", "assistant fine")]


def test_squad_is_advised_with_its_context(tmp_path):
    """A question about a text needs the text."""
    record = {"title": "x", "context": "red", "question": "hello", "answers": {"text": ["fine"], "answer_start": [1]}}
    file = jsonl(tmp_path / "a.jsonl", [record])
    named = Dataset(
        location=at(file), columns=Columns(completion="answers.text.0"), prompt_template="{context}\n\n{question}"
    )

    assert refusal_of(tmp_path, file)[1].endswith(
        'such as columns: {completion: answers.text.0} and promptTemplate: "{context}\\n\\n{question}"'
    )
    assert rows_of(tmp_path, datasets=(named,)) == [rendered("user red\n\nhello", "assistant fine")]


TOLD = [
    ({"mapping": {"a": {}}, "current_node": "a"}, "file:///a.jsonl is an export of ChatGPT: each conversation is a tree in mapping"),
    ({"tag": "x", "patterns": ["hello", "how"], "responses": ["fine"]}, "file:///a.jsonl has the columns tag, patterns, responses, but"),
    ({"text": "hello", "label": "x", "answer": "accept", "_task_hash": 1}, "file:///a.jsonl is an export of Prodigy"),
    ({"content": "hello", "author": {"name": "x"}, "id": 1}, "file:///a.jsonl holds one message in each row"),
    ({"prompt": "hello", "completion": float("nan")}, "file:///a.jsonl: a.jsonl row 1: its completion is NaN, which stands for"),
    ({"inputs": [1, 2], "targets": "fine"}, "file:///a.jsonl: a.jsonl row 1: its inputs is a list, not text"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "begin"), TOLD, ids=[" ".join(record) for record, _ in TOLD])
def test_exports_are_told_for_what_they_are(tmp_path, record, begin):
    """With no column of theirs as an answer."""
    message = refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [record]))[1]

    assert message.startswith(begin)
    assert "{messages:" not in message


@pytest.mark.parametrize("column", ["turns", "conversations", "messages"])
def test_texts_of_which_nothing_says_who_speaks_are_refused(tmp_path, column):
    """In MT-bench all of them are questions: by turns the second question would be learned as an answer."""
    file = jsonl(
        tmp_path / "a.jsonl", [{"question_id": 1, column: ["hello", "how"]}, {"question_id": 2, column: ["a", "b"]}]
    )

    assert refusal_of(tmp_path, file) == (
        "DatasetInvalid",
        f"file:///a.jsonl: 2 of 2 rows cannot be used: its {column} is a list of texts that does not say who speaks: if it is a "
        f"question, its answer, and so on, set columns: {{messages: {column}}}; else write each text as an object with role and "
        "content (a.jsonl rows 1, 2)",
    )


def test_texts_by_turns_are_read_where_the_job_names_them(tmp_path):
    """The column is named by somebody who knows it."""
    file = jsonl(tmp_path / "a.jsonl", [{"turns": ["hello", "fine"]}])
    named = Dataset(location=at(file), columns=Columns(messages="turns"))

    assert [learned for _, learned in rows_of(tmp_path, datasets=(named,))] == ["fine<|im_end|>"]


def test_questions_with_a_list_of_as_many_answers_are_paired(tmp_path):
    """As MT-bench has references; the setting that is named works."""
    file = jsonl(tmp_path / "a.jsonl", [{"turns": ["hello", "how"], "reference": ["fine", "red"]}])
    paired = Dataset(location=at(file), columns=Columns(prompt="turns.0", completion="reference.0"))

    assert refusal_of(tmp_path, file)[1] == (
        "file:///a.jsonl: a.jsonl row 1: its turns is a list of texts that does not say who speaks: if reference holds the answers to "
        "them, write each text with its answer into a column messages, or set columns: {prompt: turns.0, completion: reference.0} to learn "
        "the first of each; else write each text as an object with role and content"
    )
    assert [learned for _, learned in rows_of(tmp_path, datasets=(paired,))] == ["fine<|im_end|>"]


MARKED = {
    "script": ("<s>USER: hello", "ASSISTANT: fine</s>", "USER:, ASSISTANT:"),
    "ChatML": ("<|im_start|>user\nhello", "<|im_start|>assistant\nfine", "<|im_start|>user, <|im_start|>assistant"),
    "Alpaca": ("### Instruction:\nhello", "### Response:\nfine", "### Instruction:, ### Response:"),
    "answer alone": ("hello", "Assistant: fine", "Assistant:"),
}


@pytest.mark.parametrize(("asked", "answered", "marks"), MARKED.values(), ids=MARKED)
def test_messages_that_begin_with_marks_of_their_own_are_warned_of(tmp_path, asked, answered, marks):
    """Segments of axolotl that were written into messages as they are; the template writes its marks around them."""
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    prepared = prepared_rows(
        a_request(jsonl(tmp_path / "a.jsonl", [{"messages": messages}])), tokenizer(), tmp_path / "work"
    )

    assert [warning for warning in prepared.warnings if "already rendered" in warning] == [
        f"1 of 1 rows (100.0 %) hold messages that are already rendered: they begin with a mark of who speaks ({marks}), first a.jsonl row "
        "1. The chat template writes its own marks, so the model learns these as text. Take them out of the messages, and the ends of "
        "turns such as </s>"
    ]


@pytest.mark.parametrize(
    "asked",
    ["Continue:\nUser: hello\nAssistant: fine", "Assistant: fine", "### Notes: hello"],
    ids=["inside", "another", "heading"],
)
def test_messages_that_speak_of_marks_are_not_warned_of(tmp_path, asked):
    """A question about a dialogue is a question."""
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": "fine"}]
    file = jsonl(tmp_path / "a.jsonl", [{"messages": messages}])

    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings == ()
