"""Lengths: rows that are too long, the length that is chosen, and too few rows to hold out."""

import pytest
from finetune_contract import Evaluation

from tests.trainer.data_inputs import a_request, jsonl, prepared_rows, refusal_of, said, texts, tokenizer

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
    reason, message = refusal_of(tmp_path, file, words=tokenizer(None), sequence_length=32, over_length="error")

    assert reason == "DatasetInvalid"
    assert message.startswith("1 of 2 rows are longer than 32 tokens (the longest has ")


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
