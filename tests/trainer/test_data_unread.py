"""What rows hold beside what is learned: whatever is not known to be harmless is named, with how many rows hold it."""

import pytest
from finetune_contract import Columns, Dataset

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, rows_of, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

RATED = (
    "All rows are learned alike, good or bad: if helpfulness says how good an answer is, remove the rows with bad ones"
)
WITHOUT = "Rows are trained without it: add it to the question or the answer if it matters"
NAMED = [
    ("five ratings of HelpSteer",
     {"prompt": "x", "response": "y", "helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 2, "verbosity": 1},
     f"helpfulness in 2, correctness in 2, coherence in 2, complexity in 2, verbosity in 2 (of 2 rows). {RATED}"),
    ("a word that nobody foresaw", {"question": "x", "answer": "y", "wibble": "z"}, f"wibble in 2 (of 2 rows). {WITHOUT}"),
    ("the intent of a request", {"instruction": "x", "category": "ORDER", "intent": "cancel", "response": "y"},
     f"intent in 2 (of 2 rows). {WITHOUT}"),
    ("images", {"image": "a.jpg", "conversations": said("x", "y")},
     "image in 2 (of 2 rows). Only text is trained: remove the rows that make no sense without their images or sound"),
    ("another answer", {"problem": "x", "solution": "y", "answer": "4", "subject": "z"},
     "solution in 2, subject in 2 (of 2 rows). Rows teach answer. If solution is the answer to learn, set columns: {completion: solution}"),
    ("a key of messages", {"messages": [{**said("x")[0], "mood": "sad"}, *said("x", "y")[1:]]},
     f"messages[].mood in 2 (of 2 rows). {WITHOUT}"),
]  # fmt: skip
HARMLESS = {
    "id": "7", "prompt_id": "a1", "source": "web", "text_length": 12, "created_at": "2024-01-01", "model": "gpt-4", "language": "en",
    "num_tokens": 5, "sha256_hash": "ff", "__index_level_0__": 3, "Unnamed: 0": 4, "finish_reason": "stop", "empty": "", "none": None,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "record", "told"), NAMED, ids=[kind for kind, *_ in NAMED])
def test_what_is_not_read_is_named_with_its_rows(tmp_path, kind, record, told):
    """Over all rows, whatever the name is."""
    file = jsonl(tmp_path / "a.jsonl", [record, {**record, "id": 2}])

    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings == (
        f"file://{file} holds data that is not used: {told}",
    )


FLAGS = [
    ("never", [False, None, 0], ""),
    ("once", [False, True, False], "flag"),
]


@pytest.mark.parametrize(("kind", "values", "named"), FLAGS, ids=[kind for kind, *_ in FLAGS])
@pytest.mark.parametrize("flag", ["toxic", "is_wibble"])
def test_a_flag_that_is_set_nowhere_is_not_named(tmp_path, kind, values, named, flag):
    """WildChat's toxic, in a column and in each message; one row in which it is set makes all of them worth a look."""
    for place in ("column", "messages"):
        rows = [{"messages": said(f"x {number}", "y")} for number in range(3)]
        for row, value in zip(rows, values, strict=True):
            (row if place == "column" else row["messages"][0])[flag] = value
        warned = prepared_rows(a_request(jsonl(tmp_path / "a.jsonl", rows)), tokenizer(), tmp_path / place).warnings

        assert [f"{flag} in " in one for one in warned] == ([True] if named else [])


def test_a_flag_that_is_set_nowhere_is_not_proposed_as_the_answer(tmp_path):
    """A chat export has isPinned beside each message; what is missing is said of the column that tells something."""
    rows = [{"content": f"red {number}", "isPinned": False, "wibble": "blue"} for number in range(3)]
    file = jsonl(tmp_path / "a.jsonl", rows)
    learned = Dataset(location=at(file), columns=Columns(text="content"))

    assert prepared_rows(a_request(datasets=(learned,)), tokenizer(), tmp_path / "work").warnings == (
        f"file://{file} holds data that is not used: wibble in 3 (of 3 rows). Rows teach the text alone: add what matters to it",
    )


def test_a_column_that_says_no_to_every_answer_is_named(tmp_path):
    """Where no means a bad answer, all rows are bad."""
    rows = [{"prompt": f"x {number}", "completion": "y", "is_correct": False} for number in range(3)]
    file = jsonl(tmp_path / "a.jsonl", rows)

    assert "is_correct in 3 (of 3 rows)" in str(prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings)


def test_what_is_known_to_be_harmless_is_not_named(tmp_path):
    """Ids, hashes, lengths, sources, dates, and what is empty."""
    file = jsonl(tmp_path / "a.jsonl", [{**HARMLESS, "question": "x", "answer": "y"}])

    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings == ()


def test_what_lies_beside_a_value_that_is_read_is_counted(tmp_path):
    """The passage of a question in SQuAD, and the items of its lists that are not read."""
    paragraph = {
        "context": "red",
        "qas": [{"id": "7", "question": "how", "answers": [{"text": "fine", "answer_start": 1}]}] * 2,
    }
    file = jsonl(tmp_path / "a.jsonl", [{"title": "x", "paragraphs": [paragraph, paragraph]}])
    columns = Columns(prompt="paragraphs.0.qas.0.question", completion="paragraphs.0.qas.0.answers.0.text")
    dataset = Dataset(location=at(file), columns=columns)

    (warning,) = prepared_rows(a_request(datasets=(dataset,)), tokenizer(), tmp_path / "work").warnings
    assert warning.removeprefix(f"file://{file} ") == (
        "holds data that is not used: paragraphs.0.context in 1, paragraphs.1 in 1, paragraphs.0.qas.1 in 1 (of 1 rows). If it is part "
        'of the question, set promptTemplate: "{paragraphs.0.context}\\n\\n{paragraphs.0.qas.0.question}" in place of columns.prompt'
    )


def test_the_better_answer_in_a_column_of_its_own_is_learned(tmp_path):
    """As the refusal of response_0 and response_1 asks for; where a question is from is no part of it."""
    pair = {
        "prompt": "how",
        "prompt_source": "Alpaca",
        "response_0": "fine",
        "response_1": "red",
        "better_response_id": 0,
    }
    file = jsonl(tmp_path / "a.jsonl", [pair])
    assert refusal_of(tmp_path, file)[1].endswith(
        "Write the better one of response_0 and response_1 into a column completion, or set columns.completion to the one to learn"
    )
    jsonl(file, [pair | {"completion": "fine"}])

    (warning,) = prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings
    assert [learned for _, learned in rows_of(tmp_path, file)] == ["fine<|im_end|>"]
    assert warning == (
        f"file://{file} holds data that is not used: response_1 in 1 (of 1 rows). Rows are trained without it: add it to the question or "
        "the answer if it matters"
    )


def test_text_in_a_column_of_metadata_is_counted_and_ids_are_not(tmp_path):
    """An export of QnA Maker: people write there what a question is about. Objects are what a program keeps."""
    rows = [
        {"Question": f"hello {n}", "Answer": "fine", "Metadata": "topic:shop", "QnaId": str(n), "meta": '{"a": 1}'}
        for n in range(3)
    ]
    file = jsonl(tmp_path / "a.jsonl", rows)

    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings == (
        f"file://{file} holds data that is not used: Metadata in 3 (of 3 rows). Rows are trained without it: add it to the question or "
        "the answer if it matters",
    )
