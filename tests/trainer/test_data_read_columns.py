"""The preview says which columns are read and as what, and which are not, also those that are harmless."""

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import a_request, at, chats, jsonl, prepared_rows, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

QA = {"question": "hello", "answer": "fine"}
TEMPLATE = "{context}\n\n{question}"


def test_every_column_is_read_as_something_or_named_as_not_read(tmp_path):
    """MetaMathQA: its type changes nothing, but nobody need wonder whether it is in the prompt."""
    row = {"type": "GSM", "query": "how", "original_question": "red", "response": "fine", "system": "blue"}
    prepared = prepared_rows(a_request(jsonl(tmp_path / "a.jsonl", [row])), tokenizer(), tmp_path / "work")

    assert prepared.columns == (
        ("columns read", "system as system prompt, query as question, response as answer"),
        ("columns not read", "type, original_question"),
    )


def test_what_is_read_inside_of_columns_is_named_by_its_path(tmp_path):
    """SQuAD, as a job names it."""
    row = {"id": "1", "context": "red", "question": "how", "answers": {"text": ["fine"], "answer_start": [0]}}
    asked = Dataset(
        location=at(jsonl(tmp_path / "a.jsonl", [row])),
        columns=Columns(completion="answers.text.0"),
        prompt_template=TEMPLATE,
    )
    prepared = prepared_rows(a_request(datasets=(asked,)), tokenizer(), tmp_path / "work")

    assert prepared.columns == (
        ("columns read", "context as question, question as question, answers.text.0 as answer"),
        ("columns not read", "id"),
    )


def test_rows_of_one_file_may_spell_their_columns_in_several_ways(tmp_path):
    """Both are read."""
    rows = [{"prompt": "hello", "completion": "fine"}, {"instruction": "how", "output": "red"}]
    prepared = prepared_rows(a_request(jsonl(tmp_path / "a.jsonl", rows)), tokenizer(), tmp_path / "work")

    assert prepared.columns == (
        ("columns read", "prompt as question, completion as answer, instruction as question, output as answer"),
    )


def test_several_data_sets_are_told_apart(tmp_path):
    """By the last part of their place."""
    files = (jsonl(tmp_path / "a.jsonl", [{**QA, "id": 1}]), jsonl(tmp_path / "b.jsonl", chats(2)))
    prepared = prepared_rows(a_request(*files), tokenizer(), tmp_path / "work")

    assert prepared.columns == (
        ("columns read", "question as question, answer as answer (a.jsonl)"),
        ("columns not read", "id (a.jsonl)"),
        ("columns read", "messages as conversation (b.jsonl)"),
    )


def test_many_columns_that_are_not_read_are_counted(tmp_path):
    """The line names the first twelve."""
    more = {f"field_{number}": "x" for number in range(15)}
    prepared = prepared_rows(a_request(jsonl(tmp_path / "a.jsonl", [QA | more])), tokenizer(), tmp_path / "work")

    assert prepared.columns[1] == (
        "columns not read",
        ", ".join(f"field_{number}" for number in range(12)) + " and 3 more",
    )
