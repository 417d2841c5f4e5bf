"""Lengths: rows that are too long, the length that is chosen, and too few rows to hold out."""

from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Dataset, Evaluation
from finetune_trainer.preflight.preview_text import counts

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, said, texts, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")


def test_cpt_splits_documents_and_closes_each_with_eos(tmp_path):
    """Nothing is lost, nothing is longer than the sequence, and no piece has only one token."""
    file = jsonl(tmp_path / "a.jsonl", [{"text": "red " * 16}, {"text": "blue"}])
    words = tokenizer(None)
    prepared = prepared_rows(a_request(file, objective="cpt", sequence_length=16), words, tmp_path / "work")
    pieces = [text for text, _ in texts(prepared.folder / "train.arrow", words)]

    assert "".join(pieces) == "red " * 16 + "<|im_end|>" + "blue<|im_end|>"
    assert (prepared.train.longest <= 16, prepared.train.truncated_rows, prepared.train.dropped_rows) == (True, 0, 0)


def test_a_gate_needs_twenty_rows(tmp_path):
    """Fewer say nothing about a promotion."""
    file = jsonl(tmp_path / "a.jsonl", [{"text": f"red {number}"} for number in range(50)])

    assert refusal_of(tmp_path, file, evaluation=Evaluation(fraction=0.1, gated=True)) == (
        "DatasetTooSmall",
        "evaluation.gate needs at least 20 held-out rows, not 10 of 50: add rows, raise evaluation.fraction or "
        "evaluation.maxExamples, or remove the gate",
    )


@pytest.mark.parametrize(
    ("over_length", "counts"), [("truncate", (2, 1, 0)), ("drop", (1, 0, 1))], ids=["truncate", "drop"]
)
def test_long_rows_are_cut_or_dropped_as_asked(tmp_path, over_length, counts):
    """(rows, truncated, dropped)"""
    file = jsonl(tmp_path / "a.jsonl", [{"text": "red " * 40}, {"text": "blue"}])
    prepared = prepared_rows(
        a_request(file, sequence_length=32, over_length=over_length), tokenizer(None), tmp_path / "work"
    )

    assert (prepared.train.rows, prepared.train.truncated_rows, prepared.train.dropped_rows) == counts


def test_long_rows_are_refused_when_asked(tmp_path):
    """The message says how many and how long."""
    file = jsonl(tmp_path / "a.jsonl", [{"text": "red " * 40}, {"text": "blue"}])

    assert refusal_of(tmp_path, file, words=tokenizer(None), sequence_length=32, over_length="error") == (
        "DatasetInvalid",
        "1 of 2 training rows is longer than the sequence length of 32 tokens (the longest: a.jsonl row 1 with 43): raise "
        "training.sequenceLength to 43, or set training.overLength to truncate or drop",
    )


def test_one_warning_says_what_becomes_of_long_rows(tmp_path):
    """Rows that lose their whole answer are left out and are not counted as cut; the longest are named."""
    long, cut, only_context = (
        said("red " * 40, "fine"),
        said("x", "blue " * 40),
        [*said("a", "b"), {"role": "user", "content": "red " * 30}],
    )
    rows = [said("x", "y"), long, cut, only_context]
    file = jsonl(tmp_path / "a.jsonl", [{"messages": messages} for messages in rows])
    prepared = prepared_rows(a_request(file, sequence_length=32), tokenizer(), tmp_path / "work")

    assert (prepared.train.rows, prepared.train.masked_rows, prepared.train.truncated_rows) == (3, 1, 2)
    assert [warning for warning in prepared.warnings if "longer" in warning] == [
        "3 of 4 training rows are longer than the sequence length of 32 tokens (the longest: a.jsonl row 2 with 64, a.jsonl row 3 with "
        "63, a.jsonl row 4 with 62): 1 has no answer left within it and is left out, 1 loses the end of its answer or text, 1 loses only "
        "text that is not learned. Raise training.sequenceLength to 64, or set training.overLength to drop"
    ]
    assert not [warning for warning in prepared.warnings if "nothing to train on" in warning]


def test_long_rows_that_all_lose_their_answer_can_only_be_shortened(tmp_path):
    """To drop them changes nothing, so that is not named, and a model reads no more than it has positions."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said("red " * 40, "fine")}, {"messages": said("x", "y")}])
    prepared = prepared_rows(a_request(file, length_limit=32), tokenizer(), tmp_path / "work")

    assert [warning for warning in prepared.warnings if "longer" in warning] == [
        "1 of 2 training rows is longer than the sequence length of 32 tokens (the longest: a.jsonl row 1 with 64): 1 has no answer left "
        "within it and is left out. Shorten such rows, because the model reads no more"
    ]


def test_held_out_rows_are_measured_and_told_like_the_others(tmp_path):
    """A held-out row that is cut is compared without the end of its answer; the automatic length covers it, too."""
    rows = [{"messages": said(f"x {number}", "blue " * (4 + 8 * number))} for number in range(10)]
    file = jsonl(tmp_path / "a.jsonl", rows)
    held = Evaluation(fraction=0.2)
    short = prepared_rows(a_request(file, sequence_length=32, evaluation=held), tokenizer(), tmp_path / "1")

    assert [warning for warning in short.warnings if "held-out rows" in warning] == [
        "1 of 2 held-out rows is longer than the sequence length of 32 tokens (the longest: a.jsonl row 4 with 53): 1 loses the end of "
        "its answer or text. Raise training.sequenceLength to 53, or set training.overLength to drop"
    ]
    for seed in range(6):
        whole = prepared_rows(
            a_request(file, seed=seed, evaluation=held, length_limit=4096), tokenizer(), tmp_path / f"s{seed}"
        )
        assert not [warning for warning in whole.warnings if "longer" in warning]


def test_the_default_length_covers_99_percent_and_is_capped_by_the_model(tmp_path):
    """One long row in two hundred does not set the memory of all."""
    rows = [{"text": f"red {number}"} for number in range(199)] + [{"text": "blue " * 200}]
    file = jsonl(tmp_path / "a.jsonl", rows)
    words = tokenizer(None)

    assert prepared_rows(a_request(file), words, tmp_path / "1").sequence_length == 64
    assert (
        prepared_rows(a_request(file, over_length="error", length_limit=4096), words, tmp_path / "2").sequence_length
        == 256
    )
    assert prepared_rows(a_request(file, length_limit=32), words, tmp_path / "3").sequence_length == 32


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (32, "longer than that, and cut before the first answer begins: raise training.sequenceLength (now 32)"),
        (
            512,
            "longer than that, all that the model reads, and cut before the first answer begins: shorten the prompts",
        ),
    ],
)
def test_prompts_that_fill_a_row_are_refused_with_a_remedy_that_works(tmp_path, length, told):
    """A sequence length beyond the model's positions would be refused next."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said(f"{'red ' * 600}{number}", "fine")} for number in range(2)])

    assert refusal_of(tmp_path, file, sequence_length=length) == (
        "DatasetInvalid",
        f"no token of the 2 rows would be trained within {length} tokens: they are {told}",
    )


LONG = len(tokenizer(None)("are " * 90)["input_ids"]) + 1
"""Tokens of a long row with its end."""


def with_a_long_held_out_row(folder: Path) -> dict[str, Any]:
    """Eight rows of a few tokens to train on, and one long row that is only measured on."""
    source = Dataset(location=at(jsonl(folder / "b.jsonl", [{"text": "are " * 90}])))
    rows = Dataset(location=at(jsonl(folder / "a.jsonl", [{"text": f"red {number}"} for number in range(8)])))
    return {"datasets": (rows,), "evaluation": Evaluation(fraction=0.0, source=source)}


def test_held_out_rows_that_are_truncated_are_told_apart(tmp_path):
    """In a warning and in the preview's counts, so that nobody looks for them among the rows that are trained."""
    request = a_request(sequence_length=32, **with_a_long_held_out_row(tmp_path))
    prepared = prepared_rows(request, tokenizer(None), tmp_path / "work")

    assert prepared.warnings[0] == (
        f"1 of 1 held-out rows is longer than the sequence length of 32 tokens (the longest: b.jsonl row 1 with {LONG}): 1 loses the end "
        f"of its answer or text. Raise training.sequenceLength to {LONG}, or set training.overLength to drop"
    )
    assert prepared.warnings[1:] == ("only 1 row is held out: the evaluation is only a rough estimate",)
    assert "rows truncated          0 (and 1 held out)" in counts(prepared)


def test_long_held_out_rows_are_refused_when_asked(tmp_path):
    """What is measured shall be whole, too."""
    held_out = with_a_long_held_out_row(tmp_path)

    assert refusal_of(tmp_path, words=tokenizer(None), sequence_length=32, over_length="error", **held_out) == (
        "DatasetInvalid",
        f"1 of 1 held-out rows is longer than the sequence length of 32 tokens (the longest: b.jsonl row 1 with {LONG}): raise "
        f"training.sequenceLength to {LONG}, or set training.overLength to truncate or drop",
    )
