"""Shapes that training programs, labelling tools and databases give to data: read as they mean it, or refused with what works."""

import bz2
import json

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import BODY, a_request, at, jsonl, prepared_rows, refusal_of, rows_of, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

CHAT = ("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n", "fine<|im_end|>")
NEEDED = "but a column with messages, or a prompt and a completion, or text is needed"
SPOKEN = "[Human]: hello<eoh>\n[MOSS]: fine<eoa>"
PAIR = {"question": "hello", "answer": "fine"}
JUDGED = {"question": "hello", "response_j": "fine", "response_k": "red"}
TOKENISED = {"inputs": [1], "inputs_pretokenized": "hello", "targets": [2], "targets_pretokenized": "fine"}


def test_a_system_prompt_that_is_null_is_none(tmp_path):
    """Some sets keep its place in conversations that have none; a null question is still refused."""
    turns = [{"from": "system", "value": None}, {"from": "human", "value": "hello"}, {"from": "gpt", "value": "fine"}]
    file = jsonl(tmp_path / "a.jsonl", [{"conversations": turns}])

    assert rows_of(tmp_path, file) == [CHAT]
    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "again").warnings == ()
    lost = jsonl(tmp_path / "b.jsonl", [{"conversations": [{"from": "human", "value": None}, turns[2]]}])
    assert refusal_of(tmp_path, lost)[1] == "file:///b.jsonl: b.jsonl row 1: message 1 (user) has no text in content"


def test_rows_under_their_names_are_told_from_columns(tmp_path):
    """A row has names of columns inside, a column the names or numbers of rows."""
    how, you = {"question": "how", "answer": "red"}, {"question": "you", "answer": "fine"}
    (tmp_path / "rows.json").write_text(json.dumps({"q1": PAIR, "q2": how, "q3": you}))
    (tmp_path / "columns.json").write_text(
        json.dumps({"question": {"a": "hello", "b": "how", "c": "you"}, "answer": {"a": "fine", "b": "red", "c": "ok"}})
    )

    learned = [answer for _, answer in rows_of(tmp_path, tmp_path / "rows.json")]
    assert learned == ["fine<|im_end|>", "red<|im_end|>", "fine<|im_end|>"]
    assert len(rows_of(tmp_path, tmp_path / "columns.json")) == 3


def test_reasoning_in_parts_of_its_own_is_learned(tmp_path):
    """OpenRouter keeps it so; what is encrypted cannot be learned, and is told."""
    asked, thought = {"role": "user", "content": "hello"}, {"type": "reasoning.text", "text": "how"}
    template = BODY.replace("{{ m['content'] }}", "{{ m.reasoning_content }}{{ m['content'] }}")
    rows = [
        {"messages": [asked, {"role": "assistant", "content": "fine", "reasoning_details": [part]}]}
        for part in (thought, {"type": "reasoning.encrypted", "data": "x"})
    ]
    file = jsonl(tmp_path / "a.jsonl", rows)

    learned = [answer for _, answer in rows_of(tmp_path, file, words=tokenizer(template))]
    assert learned == ["howfine<|im_end|>", "fine<|im_end|>"]
    warned = prepared_rows(a_request(file), tokenizer(template), tmp_path / "again").warnings
    assert [text for text in warned if "messages[].reasoning_details in 1 (of 2 rows)" in text]


def test_messages_that_were_written_as_json_twice_are_read(tmp_path):
    """A program that writes text into a JSON column writes quotes around it again."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": json.dumps(json.dumps(said("hello", "fine")))}])

    assert rows_of(tmp_path, file) == [CHAT]


def test_separators_behind_the_last_field_of_a_table_say_nothing(tmp_path):
    """Spreadsheets and scripts leave them; a field with text there is still refused."""
    (tmp_path / "a.csv").write_text("question,answer\nhello,fine,,\n")
    (tmp_path / "b.csv").write_text("question,answer\nhello,fine,red\n")

    assert rows_of(tmp_path, tmp_path / "a.csv") == [CHAT]
    assert "it has 3 fields, not the 2 of the first line" in refusal_of(tmp_path, tmp_path / "b.csv")[1]


def test_another_compression_than_the_name_says_is_told_with_a_name_that_is_read(tmp_path):
    """The ending is replaced, not added to."""
    rows = bz2.compress(b'{"prompt": "hello", "completion": "fine"}\n')
    (tmp_path / "a.jsonl.gz").write_bytes(rows)
    (tmp_path / "a.jsonl.bz2").write_bytes(rows)

    assert refusal_of(tmp_path, tmp_path / "a.jsonl.gz")[1].endswith(
        "it is compressed with bzip2: rename it to a.jsonl.bz2"
    )
    assert rows_of(tmp_path, tmp_path / "a.jsonl.bz2") == [CHAT]


REFUSED = [
    ("texts beside the names of who says them", "a.jsonl", {"dialogue": ["hello", "fine"], "speakers": ["A", "B"]},
     ": a.jsonl row 1: its dialogue is a list of texts that does not say who speaks: if it is a question, its answer, and so on, set "
     "columns: {messages: dialogue}; else write each text as an object with role and content"),
    ("arguments of a call that are no JSON", "a.jsonl",
     {"messages": [*said("hello"), {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{x: 1"}}]}]},
     ": a.jsonl row 1: message 2: its tool call arguments are text that is not JSON: write them as an object, such as {\"city\": "
     "\"Rome\"}"),
    ("a number in a numbered column", "a.jsonl", {"user_1": "hello", "assistant_1": 4},
     ": a.jsonl row 1: its assistant_1 is the number 4, not text: write numbers as text (in quotes in JSON, astype(str) in pandas), and "
     "classes by their names, or list these in datasets[].classNames"),
    ("objects in numbered columns", "a.jsonl", {"user_1": {"text": "hello"}, "assistant_1": {"text": "fine"}},
     ": a.jsonl row 1: its user_1 is an object, not text: set columns: {prompt: user_1.text, completion: assistant_1.text}"),
    ("segments of axolotl", "a.jsonl", {"segments": [{"label": False, "text": "hello"}, {"label": True, "text": "fine"}]},
     " is an export of axolotl's input_output form: each segment has a label that says whether it is learned. Write the texts with "
     "label false before an answer into a column prompt and those with label true into a column completion, or write the turns into a "
     "column messages, with weight: 0 at answers that are not learned. Take rendered marks and ends of turns (such as USER:, ASSISTANT: "
     "and </s>) out of the texts, because the chat template writes its own"),
    ("parts of an answer that are not learned", "a.jsonl",
     {"messages": [*said("hello"), {"role": "assistant", "content": "fine", "train_detail": [{"begin_offset": 0, "train": False}]}]},
     ": a.jsonl row 1: message 2 has train_detail, which takes parts of a message out of the loss: only whole messages can be, so "
     "remove it to learn all of the message, or set weight: 0 to learn nothing of it"),
    ("StackExchange in pairs", "a.jsonl", JUDGED,
     " looks like preference data (columns question, response_j, response_k): sft learns one answer. To learn those in response_j and "
     "not those in response_k, set columns: {prompt: question, completion: response_j}"),
    ("MOSS as text", "a.jsonl", {"plain_text": SPOKEN},
     f" has the columns plain_text, {NEEDED}: name them in datasets[].columns, such as columns: {{messages: plain_text}}"),
    ("texts beside their tokens", "a.jsonl", TOKENISED,
     ": a.jsonl row 1: its inputs is a list, not text: set columns: {prompt: inputs_pretokenized, completion: targets_pretokenized}"),
    ("an instruction beside the records", "a.json", {"Definition": ["how"], "Instances": [{"input": "hello", "output": "fine"}]},
     ": a.json: it holds Definition beside its records, and no row would have it: write it into each record, or remove it"),
    ("lists of lists by split", "a.json", {"train": [["hello", "fine"]], "test": [["how", "red"]]},
     ": a.json: it is not a list of records, nor an object that holds one list of them (its keys: train, test): write each record as "
     "an object on a line of its own into a .jsonl file"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "content", "message"), REFUSED, ids=[kind for kind, *_ in REFUSED])
def test_what_would_be_learned_wrongly_is_refused(tmp_path, kind, name, content, message):
    """With what works."""
    (tmp_path / name).write_text(json.dumps(content))

    assert refusal_of(tmp_path, tmp_path / name) == ("DatasetInvalid", f"file:///{name}{message}")


WORKS = [
    ("StackExchange in pairs", JUDGED, Columns(prompt="question", completion="response_j")),
    ("MOSS as text", {"plain_text": SPOKEN}, Columns(messages="plain_text")),
    ("texts beside their tokens", TOKENISED, Columns(prompt="inputs_pretokenized", completion="targets_pretokenized")),
]


@pytest.mark.parametrize(("kind", "record", "columns"), WORKS, ids=[kind for kind, *_ in WORKS])
def test_the_columns_that_are_advised_work(tmp_path, kind, record, columns):
    """Done as it is said."""
    file = jsonl(tmp_path / "a.jsonl", [record])

    assert rows_of(tmp_path, datasets=(Dataset(location=at(file), columns=columns),)) == [CHAT]
