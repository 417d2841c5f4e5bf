"""Each row that was read is in exactly one count of the preview, and rows that end with an open question are told."""

import json
import re

import pytest
from finetune_contract import Dataset, Evaluation
from finetune_trainer.preflight.preview_text import counts
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, said, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

GOOD = [{"messages": said(f"hello {number}", "fine")} for number in range(8)]
ROWS = [
    *GOOD,
    {"messages": said("hello", "fine", "how")},
    {"messages": said("hello")},
    {"messages": said("hello", "fine " * 90)},
    {"messages": []},
    {"messages": None},
    {"messages": said("hello", "")},
    {"messages": [*said("hello", "fine")[:1], {"role": "assistant", "content": "fine", "weight": 0}]},
]
"""Rows that are trained, and one of each kind that may be left out."""

PARTS = (
    "rows to train",
    "rows held out",
    "exact duplicates",
    "rows too long",
    "rows with nothing",
    "rows not",
    "rows to measure",
)


@settings(max_examples=10, deadline=None)
@given(
    others=st.lists(st.sampled_from(ROWS), max_size=12),
    most=st.sampled_from([0, 3]),
    longest=st.sampled_from([48, 64]),
    over=st.sampled_from(["truncate", "drop"]),
    fraction=st.sampled_from([0.0, 0.5]),
    measured=st.booleans(),
)
def test_each_row_is_in_exactly_one_count(tmp_path_factory, others, most, longest, over, fraction, measured):
    """Whatever the rows are, and whatever a job makes of them."""
    folder = tmp_path_factory.mktemp("rows")
    rows = jsonl(folder / "a.jsonl", [*GOOD, *others])
    dataset = Dataset(location=at(rows), max_examples=most, invalid_rows="skip", invalid_max_percent=100)
    source = Dataset(location=at(jsonl(folder / "b.jsonl", [GOOD[0], *ROWS[9:11]]))) if measured else None
    request = a_request(
        datasets=(dataset,),
        evaluation=Evaluation(fraction=fraction, source=source),
        sequence_length=longest,
        over_length=over,
    )

    table = [line for line in counts(prepared_rows(request, tokenizer(), folder / "work")) if "warning" not in line]

    read = int(re.search(r"\d+", table[0])[0])
    held = 0 if measured else None  # held-out rows are then those of the source
    parts = {line: int(re.search(r"\d+", line)[0]) for line in table[1:] if line.startswith(PARTS)}
    told = sum(held if held is not None and line.startswith("rows held") else number for line, number in parts.items())
    assert (read, told) == (8 + len(others), 8 + len(others)), json.dumps(table, indent=1)


def test_rows_that_end_with_a_question_are_counted(tmp_path):
    """The last turn of a chat that somebody left teaches nothing."""
    rows = [*GOOD[:2], {"messages": said("hello", "fine", "how")}]

    assert prepared_rows(a_request(jsonl(tmp_path / "a.jsonl", rows)), tokenizer(), tmp_path / "work").warnings == (
        "1 of 3 rows (33.3 %) end with a turn of the user that nobody answers, first a.jsonl row 3: nothing is learned of that turn. "
        "Add the answer, or remove the turn",
    )
