"""Remedies that work when they are followed: exports and hub data sets, what is said of them, and nothing said in vain."""

import json
import subprocess

import pytest
from finetune_trainer.data.reading.json_text import CONVERSION

from tests.trainer.data_inputs import a_request, jsonl, prepared_rows, refusal_of, rows_of, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

HAS = "but a column with messages, or a prompt and a completion, or text is needed: name them in datasets[].columns, such as columns: "
ANSWERS = [{"text": "fine", "author": "x"}, {"text": "no", "author": "y"}]
REFUSED = [
    ("several answers", {"question": "how", "answers": ANSWERS},
     f"file:///a.jsonl has the columns question, answers, {HAS}{{prompt: question, completion: answers.0.text}}, which learns the "
     "first answer of each question"),
    ("turns without their answer", {"input": [{"role": "system", "content": "be nice"}, *said("how")[:1]], "ideal": "fine"},
     f"file:///a.jsonl has the columns input, ideal, {HAS}{{prompt: input, completion: ideal}}"),
    ("the text inside a column", {"inputs": {"input": "how"}, "outputs": {"output": "fine"}},
     "file:///a.jsonl: a.jsonl row 1: its inputs is an object, not text: set columns: {prompt: inputs.input, completion: outputs.output}"),
    ("one text and a list", {"question": "how", "answer": {"value": "fine", "aliases": ["x"]}},
     "file:///a.jsonl: a.jsonl row 1: its answer is an object, not text: set columns: {prompt: question, completion: answer.value}"),
    ("a truth value", {"question": "how", "answer": True},
     "file:///a.jsonl: a.jsonl row 1: its answer is true or false, not text: write it as text, such as yes or no"),
]  # fmt: skip
TYPESET = (
    "file:///a.jsonl: a.jsonl row 1: it has typographic quotes (\u201c), as word processors write them: replace those around names "
    'and texts by "'
)


@pytest.mark.parametrize(("kind", "record", "message"), REFUSED, ids=[kind for kind, *_ in REFUSED])
def test_the_columns_that_lead_to_the_text_are_named(tmp_path, kind, record, message):
    """Word for word."""
    (tmp_path / "a.jsonl").write_text(json.dumps(record))

    assert refusal_of(tmp_path, tmp_path / "a.jsonl") == ("DatasetInvalid", message)


GOOD = '{"prompt": "hello", "completion": "fine"}'


def test_files_that_another_program_spoiled_are_told_apart(tmp_path):
    """Word's quotes, UTF-16 and archives each need something else."""
    contents = {
        "a.jsonl": '{\u201cprompt\u201d: "x", "completion": "y"}'.encode(),
        "b.jsonl": '{"prompt": "x", "completion": "y"}'.encode("utf-16"),
        "c.zip": b"PK",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)

    assert [refusal_of(tmp_path, tmp_path / name)[1] for name in contents] == [
        TYPESET,
        "file:///b.jsonl: b.jsonl: it is UTF-16 text: save the file as UTF-8",
        "file:///c.zip has no data files, only c.zip: archives are not read, so unpack them and name the folder or the file in them",
    ]


def test_lines_of_other_kinds_are_each_told_for_what_they_are(tmp_path):
    """A merge that was left, a comment, a comma too many; the same marks are one kind whatever the branch is called."""
    lines = [
        GOOD,
        "<<<<<<< HEAD",
        "=======",
        ">>>>>>> add-faq",
        "// reviewed",
        GOOD[:-1] + ",}",
        GOOD[:20],
        *[GOOD] * 13,
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))

    assert refusal_of(tmp_path, tmp_path / "a.jsonl")[1] == (
        "file:///a.jsonl: 6 of 20 rows cannot be used: 3 because it is `<<<<<<<`, a mark that git left at a merge conflict: keep one "
        "side, and remove the marks (a.jsonl rows 2, 3, 4); 1 because it is a comment, which JSON does not have: remove that line "
        "(a.jsonl row 5); 1 because it has a comma behind its last item: remove that comma (a.jsonl row 6); 1 because it is not JSON "
        '(Expecting property name enclosed in double quotes: line 1 column 20 (char 19), near `rompt": "hello",`): correct or remove that '
        "line (a.jsonl row 7). Correct or remove them, or skip them with datasets[].invalidRows: {action: skip, maxPercent: 30}"
    )


def test_the_command_that_converts_lines_of_python_leaves_the_others_as_they_are(tmp_path):
    """Also lines that are broken, and what JSON writes otherwise than Python."""
    lines = ["{'prompt': 'it\\'s', 'completion': None}", '{"a": "x\\/y", "b": null}', "<<<<<<< HEAD", '{"cut": "']
    (tmp_path / "OLD.jsonl").write_text("\n".join(lines))
    subprocess.run(["sh", "-c", CONVERSION.partition(" with ")[2]], cwd=tmp_path, check=True)

    assert (tmp_path / "NEW.jsonl").read_text().splitlines() == [
        '{"prompt": "it\'s", "completion": null}', '{"a": "x\\/y", "b": null}', "<<<<<<< HEAD", '{"cut": "'
    ]  # fmt: skip


def test_rows_beside_their_names_are_read(tmp_path):
    """pandas' to_json(orient="split")."""
    (tmp_path / "a.json").write_text(
        json.dumps({"columns": ["prompt", "completion"], "index": [0], "data": [["hello", "fine"]]})
    )

    assert [learned for _, learned in rows_of(tmp_path, tmp_path / "a.json")] == ["fine<|im_end|>"]


def test_a_row_written_out_under_headings_is_not_taken_for_more_data(tmp_path):
    """Alpaca's text repeats its other columns."""
    row = {"instruction": "add", "input": "1 2", "output": "3", "text": "Instruction:\nadd\nInput:\n1 2\nResponse:\n3"}
    file = jsonl(tmp_path / "a.jsonl", [row])

    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings == ()


def test_ratings_beside_answers_say_what_to_do_with_them(tmp_path):
    """HelpSteer: nobody adds a number to the question."""
    file = jsonl(tmp_path / "a.jsonl", [{"prompt": "x", "response": "y", "helpfulness": 3}])

    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings == (
        f"file://{file} holds data that is not used: helpfulness in 1 (of 1 rows). All rows are learned alike, good or bad: if "
        "helpfulness says how good an answer is, remove the rows with bad ones",
    )


def test_a_refusal_also_counts_answers_that_say_nothing(tmp_path):
    """They are only warned of, so whoever corrects the file would see them after the next attempt."""
    pairs = [("how", "fine"), ("red", ""), ("blue", "N/A"), ("green", "nan"), ("hello", "fine")]
    rows = [{"prompt": asked, "completion": answer} for asked, answer in pairs]
    file = jsonl(tmp_path / "a.jsonl", [*rows, {"prompt": ["x"], "completion": "fine"}])

    assert refusal_of(tmp_path, file)[1] == (
        "file:///a.jsonl: 1 of 6 rows cannot be used: its prompt is a list, not text: set columns: {prompt: prompt.0, completion: "
        "completion} (a.jsonl row 6). Correct or remove them, or skip them with datasets[].invalidRows: {action: skip, maxPercent: 17}. "
        "Also, 1 answer is empty and 2 answers stand for a missing value (N/A, nan)"
    )


def test_a_question_said_twice_is_not_joined_to_itself(tmp_path):
    """MetaMathQA: the suggestion would ask everything in two wordings."""
    row = {"query": "how red", "original_question": "what red", "response": "fine"}
    file = jsonl(tmp_path / "a.jsonl", [row])

    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings == (
        f"file://{file} holds data that is not used: original_question in 1 (of 1 rows). Rows are trained without it: add it to the "
        "question or the answer if it matters",
    )
