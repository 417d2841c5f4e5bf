"""Lengths: rows that are too long, the length that is chosen, and too few rows to hold out."""

from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Dataset, Evaluation
from finetune_trainer.preflight.preview_text import counts

from tests.trainer.data_inputs import a_request, at, jsonl, prepared_rows, refusal_of, said, texts, tokenizer

pytestmark = pytest.mark.usefixtures("local_files")

LONG = len(tokenizer(None)("are " * 90)["input_ids"]) + 1
"""Tokens of a long row with its end."""


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


@pytest.mark.parametrize(
    ("limit", "remedy"),
    [
        (512, "raise training.sequenceLength to {most}"),
        (40, "shorten them to 40 tokens, all that the model reads"),
    ],
)
def test_long_rows_are_refused_when_asked(tmp_path, limit, remedy):
    """The message says how many and how long, and advises no length that the model does not have."""
    file = jsonl(tmp_path / "a.jsonl", [{"text": "red " * 40}, {"text": "blue"}])
    words = tokenizer(None)
    most = len(words("red " * 40)["input_ids"]) + 1

    assert refusal_of(tmp_path, file, words=words, sequence_length=32, length_limit=limit, over_length="error") == (
        "DatasetInvalid",
        f"1 of 2 rows are longer than 32 tokens (the longest has {most}): {remedy.format(most=most)}, or let "
        "training.overLength truncate or drop them",
    )


def measured_on(folder: Path, *, within: bool) -> dict[str, Any]:
    """Rows of a few tokens, and a long one that is held out: of the data itself, or of a source of its own."""
    short, long = [{"text": f"red {number}"} for number in range(8)], [{"text": "are " * 90}]
    if not within:
        source = Dataset(location=at(jsonl(folder / "b.jsonl", long)))
        datasets = (Dataset(location=at(jsonl(folder / "a.jsonl", short))),)
        return {"datasets": datasets, "evaluation": Evaluation(fraction=0.0, source=source)}
    datasets = (Dataset(location=at(jsonl(folder / "a.jsonl", [*short, *long]))),)
    return {"datasets": datasets, "evaluation": Evaluation(fraction=0.3)}


@pytest.mark.parametrize("within", [True, False], ids=["held out", "a source of its own"])
def test_the_default_length_covers_held_out_rows(tmp_path, within):
    """A row that is truncated in silence would be measured without the end of its answer."""
    prepared = prepared_rows(a_request(**measured_on(tmp_path, within=within)), tokenizer(None), tmp_path / "work")

    assert prepared.evaluation.longest == LONG
    assert (prepared.train.longest < 8, prepared.sequence_length, prepared.evaluation.truncated_rows) == (True, 128, 0)


@pytest.mark.parametrize("within", [True, False], ids=["held out", "a source of its own"])
def test_held_out_rows_that_are_truncated_are_told_apart(tmp_path, within):
    """In a warning and in the preview's counts."""
    request = a_request(sequence_length=32, **measured_on(tmp_path, within=within))
    prepared = prepared_rows(request, tokenizer(None), tmp_path / "work")

    assert (
        f"1 held-out row is longer than 32 tokens (the longest has {LONG}): what follows them is not measured. To measure all of it, "
        f"raise training.sequenceLength to {LONG}" in prepared.warnings
    )
    assert "rows truncated          0 (and 1 held out)" in counts(prepared)


def test_a_single_held_out_row_is_told_as_one(tmp_path):
    """What is measured on it is a rough estimate."""
    prepared = prepared_rows(a_request(**measured_on(tmp_path, within=False)), tokenizer(None), tmp_path / "work")

    assert prepared.warnings == ("only 1 row is held out: the evaluation is only a rough estimate",)


def test_long_held_out_rows_are_refused_when_asked(tmp_path):
    """What is measured shall be whole, too."""
    reason, message = refusal_of(
        tmp_path, words=tokenizer(None), sequence_length=32, over_length="error", **measured_on(tmp_path, within=False)
    )

    assert (reason, message) == (
        "DatasetInvalid",
        f"1 of 9 rows are longer than 32 tokens (1 of them held out, the longest has {LONG}): raise training.sequenceLength to "
        f"{LONG}, or let training.overLength truncate or drop them",
    )


def test_rows_cut_before_their_answer_are_dropped_and_counted(tmp_path):
    """TRL would drop them in silence."""
    file = jsonl(tmp_path / "a.jsonl", [{"messages": said("red " * 40, "fine")}, {"messages": said("x", "y")}])
    prepared = prepared_rows(a_request(file, sequence_length=32), tokenizer(), tmp_path / "work")

    assert (prepared.train.rows, prepared.train.masked_rows, prepared.train.truncated_rows) == (1, 1, 1)
    assert "1 row is left out because it contains nothing to train on" in prepared.warnings


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
