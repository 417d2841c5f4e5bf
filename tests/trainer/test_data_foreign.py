"""Files that hold no rows as they are: what each is said to be, and under which name it would be read."""

import datetime as dt
import decimal
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, rows_of, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

ROW = json.dumps({"prompt": "hello", "completion": "fine"}).encode() + b"\n"
AS_ROWS = 'write each question with its answer as a line such as {"prompt": ..., "completion": ...} into a .jsonl file'
TABLE = b"prompt,completion\nhello you,fine thanks\n"
UNICODE_TEXT = 'Question\tAnswer\r\n"hello\thow"\t"fine\r\n""red"", thanks"\r\nhow\tblue\r\n'.encode("utf-16")
MISNAMED = [
    ("rows in a text file", "a.txt", ROW * 2, "a.txt has no data files, only a.txt: it holds JSON lines: rename it to a.jsonl", "a.jsonl"),
    ("rows in a log", "a.log", ROW * 2, "a.log has no data files, only a.log: it holds JSON lines: rename it to a.jsonl", "a.jsonl"),
    ("rows without an ending", "part-0", ROW * 2, "part-0 has no data files, only part-0: it holds JSON lines: rename it to part-0.jsonl",
     "part-0.jsonl"),
    ("a table in a text file", "a.txt", TABLE, "a.txt has no data files, only a.txt: it holds a table: rename it to a.csv", "a.csv"),
    ("the Unicode text of Excel", "a.txt", UNICODE_TEXT, "a.txt has no data files, only a.txt: it holds a table: rename it to a.tsv",
     "a.tsv"),
    ("compressed rows", "a.jsonl", gzip.compress(ROW), "a.jsonl: a.jsonl: it is compressed with gzip: rename it to a.jsonl.gz",
     "a.jsonl.gz"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "content", "message", "read_as"), MISNAMED, ids=[kind for kind, *_ in MISNAMED]
)
def test_a_file_under_a_wrong_name_is_told_the_right_one(tmp_path, kind, name, content, message, read_as):
    """Under which it is read."""
    (tmp_path / name).write_bytes(content)
    assert refusal_of(tmp_path, tmp_path / name) == ("DatasetInvalid", f"file:///{message}")

    (tmp_path / name).rename(tmp_path / read_as)
    assert rows_of(tmp_path, tmp_path / read_as)


ROWS_IN_A_TEXT = [
    ("the Unicode text of Excel", UNICODE_TEXT, "a table", "a.tsv"),
    ("a table that was saved as UTF-8", UNICODE_TEXT.decode("utf-16").encode(), "a table", "a.tsv"),
    (
        "a table with long answers",
        b"Question\tAnswer\n" + b"hello\tfine %s\n" % (b"thanks " * 900) * 3,
        "a table",
        "a.tsv",
    ),
    ("JSON lines", ROW * 3, "JSON lines", "a.jsonl"),
]


@pytest.mark.parametrize(
    ("kind", "content", "what", "read_as"), ROWS_IN_A_TEXT, ids=[kind for kind, *_ in ROWS_IN_A_TEXT]
)
def test_rows_are_not_learned_as_one_document(tmp_path, kind, content, what, read_as):
    """Objective cpt reads text files; the marks of a table in them would be learned as text."""
    (tmp_path / "a.txt").write_bytes(content)
    assert refusal_of(tmp_path, tmp_path / "a.txt", objective="cpt") == (
        "DatasetInvalid", f"file:///a.txt: a.txt: it holds {what}: rename it to {read_as}"
    )  # fmt: skip

    (tmp_path / "a.txt").rename(tmp_path / read_as)
    assert rows_of(tmp_path, tmp_path / read_as)


@pytest.mark.parametrize(
    "text", ["hello, how\nfine, thanks you\nred, blue\n", "\thello\n\thow are you\nfine\n", "{hello\nfine}\nhow\n"]
)
def test_a_text_with_commas_and_tabs_is_a_document(tmp_path, text):
    """Prose, code and lists have them, too."""
    (tmp_path / "a.txt").write_text(text)

    assert rows_of(tmp_path, tmp_path / "a.txt", objective="cpt")


FOREIGN = [
    ("a.xls", b"\xd0\xcf\x11\xe0", "a spreadsheet: save it as .xlsx or .csv"),
    ("a.ods", b"PK\x03\x04", "a spreadsheet: save it as .xlsx or .csv"),
    ("a.sql", b"INSERT INTO faq VALUES (1);", "a database: export the table as .csv"),
    ("a.yml", b"nlu: []", f"a configuration or markup file: {AS_ROWS}"),
    ("a.docx", b"PK\x03\x04", f"a document: save its text as .txt to learn it as plain text (objective cpt), or {AS_ROWS}"),
    ("a.srt", b"1", f"a transcript or log: {AS_ROWS}"),
    ("a.png", b"\x89PNG", "an image, sound or film: only text is trained, so write what it says into rows of text"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "told"), FOREIGN, ids=[name for name, *_ in FOREIGN])
def test_a_file_of_another_program_is_named(tmp_path, name, content, told):
    """With how rows are made of it."""
    (tmp_path / name).write_bytes(content)

    assert refusal_of(tmp_path, tmp_path / name) == (
        "DatasetInvalid", f"file:///{name} has no data files, only {name}: it is {told}"
    )  # fmt: skip


def test_a_database_that_is_called_a_table_is_named(tmp_path):
    """By its first bytes."""
    (tmp_path / "a.csv").write_bytes(b"SQLite format 3\0")

    assert refusal_of(tmp_path, tmp_path / "a.csv") == (
        "DatasetInvalid", "file:///a.csv: a.csv: it is a database: export the table as .csv"
    )  # fmt: skip


def test_a_pickle_alone_is_told_how_rows_are_made_of_it(tmp_path):
    """There is nothing beside it to select."""
    (tmp_path / "a.pkl").write_bytes(b"\x80")

    assert refusal_of(tmp_path, tmp_path / "a.pkl")[1] == (
        "file:///a.pkl holds pickle files such as a.pkl, which can run code when loaded: save the table as rows where running that code "
        'is safe, with df.to_json("rows.jsonl", orient="records", lines=True)'
    )


def test_rows_of_another_form_are_sent_to_a_data_set_of_their_own(tmp_path):
    """They are good rows, and the job may name several files."""
    pair = {"prompt": "hello", "completion": "fine"}
    file = jsonl(tmp_path / "a.jsonl", [pair, {"messages": said("hello", "fine")}])

    assert refusal_of(tmp_path, file)[1] == (
        "file:///a.jsonl: 1 of 2 rows cannot be used: it has the columns messages, which are another form than that of the first row: "
        "move such rows into a file of their own and add it to datasets (a.jsonl row 2). Correct or remove them, or skip them with "
        "datasets[].invalidRows: {action: skip, maxPercent: 50}"
    )


def test_an_answer_that_is_still_to_be_written_is_counted(tmp_path):
    """People leave placeholders, which a model learns like anything else; a word of the same letters is no placeholder."""
    answers = ("TODO", "[answer here]", "???", "To do it, write the answer here.")
    file = jsonl(
        tmp_path / "a.jsonl", [{"prompt": f"hello {number}", "completion": said} for number, said in enumerate(answers)]
    )

    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings == (
        "3 of 4 rows (75.0 %) have a placeholder in place of an answer (TODO, [answer here], ???), first a.jsonl row 1: the model "
        "learns to say it. Write the answers, or remove these rows",
    )


def test_a_column_with_dots_in_its_own_name_is_suggested_and_read(tmp_path):
    """Argilla writes the answers of people into answer.responses, beside the suggestion of a model."""
    row = {"prompt": "hello", "answer.responses": ["fine"], "answer.suggestion": "red"}
    file = jsonl(tmp_path / "a.jsonl", [row])
    named = Dataset(location=at(file), columns=Columns(prompt="prompt", completion="answer.responses.0"))

    assert refusal_of(tmp_path, file)[1].endswith("such as columns: {prompt: prompt, completion: answer.responses.0}")
    assert [learned for _, learned in rows_of(tmp_path, datasets=(named,))] == ["fine<|im_end|>"]


SEVERAL = '{"prompt": "hello", "completion": "fine"}{"prompt": "how", "completion": "red"}'


def test_several_objects_on_a_line_are_told_from_broken_ones_and_the_other_name_works(tmp_path):
    """Programs that append to a file often forget the line end."""
    (tmp_path / "a.jsonl").write_text(SEVERAL)
    (tmp_path / "a.json").write_text(SEVERAL)

    assert refusal_of(tmp_path, tmp_path / "a.jsonl")[1] == (
        "file:///a.jsonl: a.jsonl row 1: it holds several objects: put each on a line of its own, or rename the file to .json"
    )
    assert len(rows_of(tmp_path, tmp_path / "a.json")) == 2


@pytest.mark.parametrize("value", [decimal.Decimal("3.50"), dt.date(2024, 1, 2)], ids=["decimal", "date"])
def test_numbers_and_dates_of_a_database_are_named_as_people_name_them(tmp_path, value):
    """Not by the types of a programming language."""
    pq.write_table(pa.table({"question": ["hello"], "answer": [value]}), tmp_path / "a.parquet")

    said = {"3.50": "the number 3.50", "2024-01-02": "the date or time 2024-01-02"}[str(value)]
    assert f"its answer is {said}, not text" in refusal_of(tmp_path, tmp_path / "a.parquet")[1]
