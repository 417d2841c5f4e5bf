"""Pairs of columns that public data sets have and whose direction is not in doubt: they are read without a setting, and that is said."""

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, rows_of, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

PAIRS = [
    ("SAMSum", {"id": "1", "dialogue": "A: how\r\nB: red", "summary": "fine"}, "dialogue", "summary"),
    ("CNN", {"article": "how", "highlights": "fine", "id": "1"}, "article", "highlights"),
    ("XSum", {"document": "how", "summary": "fine", "id": "1"}, "document", "summary"),
    ("BillSum", {"text": "how", "summary": "fine"}, "text", "summary"),
    ("GovReport", {"report": "how", "summary": "fine"}, "report", "summary"),
    ("arXiv", {"article": "how", "abstract": "fine"}, "article", "abstract"),
    ("BigPatent", {"description": "how", "abstract": "fine"}, "description", "abstract"),
    ("Reddit TIFU", {"documents": "how", "tldr": "fine"}, "documents", "tldr"),
    ("counselling", {"Context": "how", "Response": "fine"}, "Context", "Response"),
    ("AI medical chatbot", {"Patient": "how", "Doctor": "fine"}, "Patient", "Doctor"),
]


@pytest.mark.parametrize(("name", "record", "asked", "answer"), PAIRS, ids=[name for name, *_ in PAIRS])
def test_a_pair_of_a_public_data_set_is_read_and_said(tmp_path, name, record, asked, answer):
    """The answer is learned, and a warning says which columns are read."""
    file = jsonl(tmp_path / "a.jsonl", [record])

    assert rows_of(tmp_path, file) == [
        (f"<|im_start|>user\n{record[asked]}<|im_end|>\n<|im_start|>assistant\nfine<|im_end|>\n", "fine<|im_end|>")
    ]
    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "again").warnings == (
        f"file://{file} is read as questions in {asked} with answers in {answer}: to teach anything else, name the columns in "
        "datasets[].columns",
    )


def test_the_job_may_name_other_columns_of_such_a_pair(tmp_path):
    """A text to a summary is asked for by name, without the warning."""
    file = jsonl(tmp_path / "a.jsonl", [{"document": "how", "summary": "fine"}])
    turned = (Dataset(location=at(file), columns=Columns(prompt="summary", completion="document")),)

    assert prepared_rows(a_request(datasets=turned), tokenizer(), tmp_path / "work").warnings == ()
    assert [learned for _, learned in rows_of(tmp_path, datasets=turned)] == ["how<|im_end|>"]


def test_a_question_beside_such_a_pair_is_not_dropped(tmp_path):
    """QMSum summarises a meeting by a query, so the pair alone is not what is meant."""
    row = {"query": "how", "document": "red", "summary": "fine"}

    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [row]))[1].endswith(
        'such as columns: {completion: summary} and promptTemplate: "{document}\\n\\n{query}"'
    )


NOT_READ = [
    {"patient": "P-17", "doctor": "fine", "notes": "red"},
    {"document": "how", "summary": "fine", "questions": ["red"], "answers": ["blue"]},
]


@pytest.mark.parametrize("record", NOT_READ, ids=[" ".join(record) for record in NOT_READ])
def test_columns_of_these_names_that_hold_something_else_are_asked_for(tmp_path, record):
    """Ids, or a summary beside questions with their answers."""
    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [record]))[0] == "DatasetInvalid"
