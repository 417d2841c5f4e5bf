"""Rows that hint at a wrong column are warned of, whoever named it: questions that are ids, one answer to everything."""

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")


def warnings_of(folder, rows, **columns):
    """What is warned of these rows."""
    file = jsonl(folder / "a.jsonl", rows)
    request = a_request(datasets=(Dataset(location=at(file), columns=Columns(**columns)),))
    return prepared_rows(request, tokenizer(), folder / "work").warnings


def test_questions_that_are_ids_addresses_or_files_are_counted(tmp_path):
    """Nothing in them tells a model what to answer."""
    asked = ["https://shop.test/1", "T-1001", "2026-03-01 10:00", "hello.png", "hello red", "how many are 2 and 3?"]
    rows = [{"prompt": text, "completion": f"fine {number}"} for number, text in enumerate(asked)]

    assert warnings_of(tmp_path, rows) == (
        "4 of 6 rows (66.7 %) have a question that is nothing but a number, a date, an id or an address (https://shop.test/1, T-1001, "
        "2026-03-01 10:00, hello.png), first a.jsonl row 1: a model cannot look it up. Name the column of the question in columns.prompt, "
        "or write what it stands for",
    )


def test_sums_are_questions(tmp_path):
    """A model can do them."""
    rows = [{"prompt": text, "completion": f"fine {text}"} for text in ("2+2", "12 - 5", "3 * 4", "7/2")]

    assert warnings_of(tmp_path, rows) == ()


def test_a_number_in_a_later_turn_is_no_such_question(tmp_path):
    """Somebody chooses from a list."""
    assert warnings_of(tmp_path, [{"messages": said("hello", "one or two?", "2", "fine")}]) == ()


def test_one_answer_to_all_questions_is_told(tmp_path):
    """A status that a job names as the answer; of MT-bench's turns the second is one instruction."""
    rows = [{"question": f"hello {number}", "status": "open", "thanks": f"red {number}"} for number in range(5)]

    assert warnings_of(tmp_path, rows, prompt="question", completion="status")[0] == (
        "all 5 rows have the same answer (open): the model learns to say it whatever is asked. If the answer stands in another column, "
        "name that in columns.completion"
    )
    assert not any(
        "same answer" in warning for warning in warnings_of(tmp_path, rows, prompt="question", completion="thanks")
    )
