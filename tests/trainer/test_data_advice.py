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
     'file:///a.jsonl: a.jsonl row 1: its tools are an object, not a list of tools: write each as '
     '{"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}} in a list, or rename the column to '
     "train without it"),
    ("a speaker that is a list", "a.jsonl", json.dumps({"messages": [{"from": ["x"], "value": "y"}]}).encode(),
     "file:///a.jsonl: a.jsonl row 1: message 1 has a role that is a list, not text"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "content", "message"), REFUSED, ids=[kind for kind, *_ in REFUSED])
def test_what_to_write_instead_is_said(tmp_path, kind, name, content, message):
    """The columns that are there, mapped where their names are well known."""
    assert refusal_of(tmp_path, content, name) == message


def test_rows_with_verdicts_are_refused_with_the_number_of_bad_ones(tmp_path):
    """The remedy works as it is said: the good rows, without the column."""
    rows = [{"prompt": f"hello {n}", "completion": "fine", "label": n % 3 > 0} for n in range(9)]
    message = refusal_of(tmp_path, b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    good = [{name: value for name, value in row.items() if name != "label"} for row in rows if row["label"]]

    assert message == (
        "file:///a.jsonl (9 rows) looks like unpaired preference data (columns prompt, completion, label): 3 of 9 rows have label false, "
        "and sft would learn the bad answers too; keep the rows whose label is true and remove that column, or set format: "
        "prompt-completion to learn all of them"
    )
    prepared = prepared_rows(a_request(jsonl(tmp_path / "b.jsonl", good)), tokenizer(), tmp_path / "good")
    assert prepared.train.rows + prepared.evaluation_rows == 6


def test_messages_of_a_chat_are_counted_without_the_other_files(tmp_path):
    """An export of Slack: its users and channels lie beside the days of each channel."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "users.json").write_text(json.dumps([{"id": "U1", "name": "mila"}]))
    days = [{"type": "message", "user": f"U{n}", "text": "hello", "ts": f"{n}.0", "thread_ts": "1.0"} for n in range(3)]
    (tmp_path / "set" / "day.json").write_text(json.dumps(days))

    with pytest.raises(UserError) as refusal:
        prepared_rows(a_request(tmp_path / "set"), tokenizer(), tmp_path / "work")
    assert refusal.value.message == (
        f"file://{tmp_path}/set (4 rows) holds one message in each of 3 rows (columns user and text), so no row has a question with its "
        "answer: join the messages of a conversation into one row with a column messages, each with a role, user or assistant, following "
        "thread_ts, or set columns: {text: text} to learn each message as plain text"
    )


def test_a_folder_of_a_foreign_kind_is_told_what_is_read(tmp_path):
    """What the file is, and what else may lie there."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "faq.db").write_bytes(b"SQLite format 3\0")

    with pytest.raises(UserError) as refusal:
        prepared_rows(a_request(tmp_path / "set"), tokenizer(), tmp_path / "work")
    assert refusal.value.message == (
        f"file://{tmp_path}/set has no data files, only faq.db: it is a database: export the table as .csv. In a folder data is read "
        "from .jsonl, .ndjson, .json, .csv, .tsv, .xlsx, .parquet, .arrow; text files may end in .gz, .bz2 or .zst too"
    )


def test_marks_of_images_are_counted(tmp_path):
    """The model would learn to answer what it cannot see."""
    rows = [{"messages": said("<image>\nhello", "fine")}, {"messages": said("how <u>is</u> it", "fine")}]

    assert prepared_rows(a_request(jsonl(tmp_path / "a.jsonl", rows)), tokenizer(), tmp_path / "work").warnings[0] == (
        "1 of 2 rows (50.0 %) hold a mark for an image, a film or a sound (<image>), first a.jsonl row 1: only text is trained, so "
        "nothing stands in its place. Remove these rows, or the marks where the text makes sense without"
    )


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


HEADERLESS = (
    "which look like data, not column names: if the first line of the table is a row, add a line with the names above it, "
    "such as prompt and completion; if it holds the names, say in datasets[].columns which is which"
)
FIRST_ROWS = [
    ("numbered", "a.tsv", b"question 0\tanswer 0\nquestion 1\tanswer 1\n", "question 0, answer 0"),
    ("sentences", "a.csv", b"How are you?,fine thanks\nWho is red?,blue\n", "How are you?, fine thanks"),
    ("a class", "a.csv", b"1,red\n0,blue\n", "1, red"),
    ("long texts", "a.tsv", b"hello " * 9 + b"\tfine\nhow\tblue\n", f"{('hello ' * 9)[:40]}..., fine"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "content", "shown"), FIRST_ROWS, ids=[kind for kind, *_ in FIRST_ROWS])
def test_a_table_without_a_line_of_names_is_told(tmp_path, kind, name, content, shown):
    """A suggestion such as {prompt: question 0} would drop a row and name columns by it; the line that is asked for helps."""
    assert refusal_of(tmp_path, content, name) == f"file:///{name} has the columns {shown}, {HEADERLESS}"

    mark = b"\t" if name.endswith("tsv") else b","
    (tmp_path / name).write_bytes(b"prompt" + mark + b"completion\n" + content)
    assert prepared_rows(a_request(tmp_path / name), tokenizer(), tmp_path / "work").train.rows == 2


CORPORA = [
    ("code", {"path": "a.py", "content": "red", "license": "a text that is longer than the code"}, "content"),
    ("a question with its answer", {"question": "hello", "output_html": "fine, how are you"}, "output_html"),
    ("an article", {"title": "hello how are you", "article": "red"}, "article"),
    ("names that say nothing", {"x": "red", "y y": "blue blue"}, "y y"),
    ("preference", {"chosen": "red", "rejected": "red blue"}, "chosen"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "row", "column"), CORPORA, ids=[kind for kind, *_ in CORPORA])
def test_a_corpus_is_told_the_column_of_its_text(tmp_path, kind, row, column):
    """Objective cpt has no prompts; what is suggested is read."""
    file = jsonl(tmp_path / "a.jsonl", [row])
    words = tokenizer(None)
    with pytest.raises(UserError) as refusal:
        prepared_rows(a_request(file, objective="cpt"), words, tmp_path / "work")

    assert refusal.value.message == (
        f"file://{file} has the columns {', '.join(row)}, but objective cpt learns a column with text: name it in "
        f"datasets[].columns, such as columns: {{text: {column}}}"
    )
    named = Dataset(location=at(file), columns=Columns(text=column))
    found = prepared_rows(a_request(datasets=(named,), objective="cpt"), words, tmp_path / "work")
    assert texts(found.folder / "train.arrow", words)[0][0] == f"{row[column]}<|im_end|>"


def test_the_text_of_a_corpus_comes_before_other_columns(tmp_path):
    """Instruction data with its text rendered beside it is plain text for objective cpt."""
    file = jsonl(tmp_path / "a.jsonl", [{"text": "red", "prompt": "hello", "completion": "fine"}])
    words = tokenizer(None)
    found = prepared_rows(a_request(file, objective="cpt"), words, tmp_path / "work")

    assert [whole for whole, _ in texts(found.folder / "train.arrow", words)] == ["red<|im_end|>"]


def test_earlier_turns_beside_a_message_stay_in_the_question(tmp_path):
    """Cohere's form: the suggestion names the question and the answer, and the history is read with them."""
    history = [{"role": "USER", "message": "red"}, {"role": "CHATBOT", "message": "blue"}]
    file = jsonl(tmp_path / "a.jsonl", [{"chat_history": history, "message": "hello", "response": "fine"}])
    words = tokenizer()
    with pytest.raises(UserError) as refusal:
        prepared_rows(a_request(file), words, tmp_path / "work")

    assert refusal.value.message == (
        f"file://{file} has the columns chat_history, message, response, {NEEDED}{{prompt: message, completion: response}}; "
        "chat_history is then read as the earlier turns"
    )
    named = Dataset(location=at(file), columns=Columns(prompt="message", completion="response"))
    found = prepared_rows(a_request(datasets=(named,)), words, tmp_path / "work")
    assert texts(found.folder / "train.arrow", words) == [(
        "<|im_start|>user\nred<|im_end|>\n<|im_start|>assistant\nblue<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
        "<|im_start|>assistant\nfine<|im_end|>\n",
        "fine<|im_end|>",
    )]  # fmt: skip
