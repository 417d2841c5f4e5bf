"""What rows hold beside what is learned: whatever is not known to be harmless is named, with how many rows hold it."""

import pytest

from tests.trainer.data_inputs import a_request, jsonl, prepared_rows, said, tokenizer

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


def test_what_is_known_to_be_harmless_is_not_named(tmp_path):
    """Ids, hashes, lengths, sources, dates, and what is empty."""
    file = jsonl(tmp_path / "a.jsonl", [{**HARMLESS, "question": "x", "answer": "y"}])

    assert prepared_rows(a_request(file), tokenizer(), tmp_path / "work").warnings == ()
