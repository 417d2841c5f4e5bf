"""What a program for annotation says of its answers: discarded ones are counted, and no suggestion hides them."""

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")


def annotated(number: int, *states: str) -> dict[str, object]:
    """A record of Argilla with an answer for each state."""
    return {
        "prompt": f"hello {number}",
        "response.responses": [f"fine {state}" for state in states],
        "response.responses.status": list(states),
    }


ROWS = [annotated(0, "submitted", "submitted"), annotated(1, "discarded"), annotated(2, "submitted")]


def test_a_suggestion_names_the_answers_that_were_discarded(tmp_path):
    """Followed as it stands it would learn them."""
    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", ROWS)) == (
        "DatasetInvalid",
        "file:///a.jsonl (3 rows) has the columns prompt, response.responses, response.responses.status, but a column with messages, or "
        "a prompt and a completion, or text is needed: name them in datasets[].columns, such as columns: {prompt: prompt, completion: "
        "response.responses.0}, which learns the first answer of each question. response.responses.status says of 1 of 3 rows that they, "
        "or answers in them, were discarded: remove those first",
    )


def test_discarded_answers_are_counted_before_all_else_that_is_not_used(tmp_path):
    """The column that is learned is not among it, though its own name has dots."""
    file = jsonl(tmp_path / "a.jsonl", [row | {f"more_{letter}": "x" for letter in "abcdefg"} for row in ROWS])
    chosen = Dataset(location=at(file), columns=Columns(prompt="prompt", completion="response.responses.0"))

    (warning,) = prepared_rows(a_request(datasets=(chosen,)), tokenizer(), tmp_path / "work").warnings

    assert warning.startswith(f"file://{file} holds data that is not used: response.responses.status in 1, more_a in 3")
    assert warning.endswith(
        "All answers are learned, also those that somebody discarded: remove the rows in which response.responses.status says so"
    )


@pytest.mark.parametrize("state", ["submitted", "accepted", "done", "", None])
def test_a_state_that_takes_nothing_back_is_not_told(tmp_path, state):
    """A status stands in most exports."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said("hello", "fine"), "status": state}])

    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings == ()


def test_the_text_of_a_corpus_is_suggested_beside_words(tmp_path):
    """The Stack: a program with its path, language and ending."""
    row = {
        "content": "import os\n\n" + "print(os.name)\n" * 9,
        "ext": "py",
        "lang": "Python",
        "size": 9,
        "max_stars_repo_path": "a/b.py",
    }

    assert refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", [row]))[1].endswith(
        "name them in datasets[].columns, such as columns: {text: content} and objective: cpt"
    )


@pytest.mark.parametrize(
    ("answers", "told"), [(["3", "1", "2"], True), (["12", "green", "blue"], False), (["1911"] * 3, False)]
)
def test_numbers_are_told_where_answers_are_numbers(tmp_path, answers, told):
    """One answer that is a number makes no classes of the others."""
    rows = [
        {"context": f"red {n}", "question": f"how {n}", "answers": {"text": [text]}} for n, text in enumerate(answers)
    ]

    assert ("holds numbers" in refusal_of(tmp_path, jsonl(tmp_path / "a.jsonl", rows))[1]) == told
