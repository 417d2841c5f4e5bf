"""Data as people really have it: what they are told to write instead, and what they are warned of."""

import json
from pathlib import Path

import pytest
from finetune_contract import Columns, Dataset, Evaluation
from finetune_trainer.errors import UserError

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, said, texts, tokenizer

NEEDED = (
    "but a column with messages, or a prompt and a completion, or text is needed: name them in datasets[].columns, such as "
    "columns: "
)
ALPACA = {"instruction": "hello", "input": "red", "output": "fine"}


@pytest.fixture(autouse=True)
def own_disk(monkeypatch):
    """file:// as on the local cluster."""
    monkeypatch.setenv("FINETUNE_ALLOW_FILE", "1")


def refusal_of(folder: Path, content: bytes, name: str = "a.jsonl") -> str:
    """What is said of a file."""
    (folder / name).write_bytes(content)
    with pytest.raises(UserError) as refusal:
        prepared_rows(a_request(folder / name), tokenizer(), folder / "work")
    assert refusal.value.reason == "DatasetInvalid"
    return refusal.value.message.replace(str(folder), "")


REFUSED = [
    ("turns under another name", "a.jsonl", json.dumps({"id": 1, "my_chat": said("a", "b")}).encode(),
     f"file:///a.jsonl has the columns id, my_chat, {NEEDED}{{messages: my_chat}}"),
    ("csv in Latin-1", "a.csv", "prompt,completion\r\ncaf\xe9,fine\r\n".encode("latin-1"),
     "file:///a.csv: a.csv is not UTF-8 text (invalid continuation byte): save the file as UTF-8"),
    ("tools that are no list", "a.jsonl", json.dumps({"messages": said("a", "b"), "tools": {"name": "x"}}).encode(),
     "file:///a.jsonl: a.jsonl row 1: its tools are dict, not a list of tools"),
    ("a speaker that is a list", "a.jsonl", json.dumps({"messages": [{"from": ["x"], "value": "y"}]}).encode(),
     "file:///a.jsonl: a.jsonl row 1: message 1 has a role that is a list, not text"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "content", "message"), REFUSED, ids=[kind for kind, *_ in REFUSED])
def test_what_to_write_instead_is_said(tmp_path, kind, name, content, message):
    """The columns that are there, mapped where their names are well known."""
    assert refusal_of(tmp_path, content, name) == message


def test_the_input_of_alpaca_is_not_left_out_in_silence(tmp_path):
    """Mapped as advised, a part of the question would be missing from every row."""
    file = jsonl(tmp_path / "a.jsonl", [ALPACA])
    mapped = Dataset(location=at(file), columns=Columns(prompt="instruction", completion="output"))

    assert prepared_rows(a_request(datasets=(mapped,)), tokenizer(), tmp_path / "work").warnings == (
        f"file://{file} holds data that is not used: input in 1 (of 1 rows). If it is part of the question, set promptTemplate: "
        '"{instruction}\\n\\n{input}" in place of columns.prompt',
    )


def test_empty_answers_are_counted(tmp_path):
    """A cell that was left empty teaches silence; a call without words does not, nor does an earlier turn of a prompt."""
    call = {"type": "function", "function": {"name": "look", "arguments": {}}}
    words = tokenizer("{% for m in messages %}{{ m.role }} {{ m.content }}{{ m.tool_calls }}<|im_end|>{% endfor %}")
    rows = [
        {"messages": said("a", "b")},
        {"messages": [*said("a"), {"role": "assistant", "content": "", "tool_calls": [call]}]},
        {"prompt": said("a", "", "c"), "completion": said("", "d")[1:]},
        {"prompt": "a", "completion": " \n"},
    ]
    files = [jsonl(tmp_path / f"{number}.jsonl", [row]) for number, row in enumerate(rows)]
    found = prepared_rows(a_request(*files), words, tmp_path / "work")

    assert found.warnings == (
        "1 of 4 rows (25.0 %) have an empty answer, first 3.jsonl row 1: the model learns to end its turn immediately. "
        "Remove these rows unless that is intended",
    )


def test_data_too_small_to_hold_rows_out_is_warned_of(tmp_path):
    """Fifty copies of one row are one row; nobody should wait for a comparison."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said("a", "b")}] * 50)
    found = prepared_rows(a_request(file, evaluation=Evaluation(fraction=0.1)), tokenizer(), tmp_path / "work")

    assert (found.train.rows, found.duplicates, found.warnings) == (
        1, 49, ("no rows are held out of 1, too few to set some aside: base and tuned model are not compared",)
    )  # fmt: skip


def test_suffixes_in_capitals_and_speakers_of_sharegpt_are_known(tmp_path):
    """As exported by other systems."""
    turns = [{"from": "user", "value": "hello"}, {"from": "chatgpt", "value": "fine"}]
    words = tokenizer()
    found = prepared_rows(a_request(jsonl(tmp_path / "A.JSONL", [{"conversations": turns}])), words, tmp_path / "work")

    assert [learned for _, learned in texts(found.folder / "train.arrow", words)] == ["fine<|im_end|>"]
