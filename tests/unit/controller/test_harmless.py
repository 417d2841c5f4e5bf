"""What strangers wrote, and a terminal or a reader of logs would obey, is spelled out before anybody sees it."""

import logging

import pytest
from finetune_contract import (
    EvaluationResult,
    Outcome,
    Progress,
    Sample,
    harmless,
    outcome_text,
    parse_outcome,
    parse_progress,
)
from finetune_contract.report import progress_line
from finetune_operator.controller.logs import TextLines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words, \u00e4\u6f22\U0001f600", "plain words, \u00e4\u6f22\U0001f600"),
        ("two\n\tlines", "two\n\tlines"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("over\rwritten\x08\x7f\x9b1m", "over\\rwritten\\x08\\x7f\\x9b1m"),
        ("safe\u202etxt.exe\u2066", "safe\\u202etxt.exe\\u2066"),
        ("one\u2028entry", "one\\u2028entry"),
        ("family \U0001f468\u200d\U0001f469", "family \U0001f468\u200d\U0001f469"),
    ],
    ids=["plain", "lines", "escape sequences", "overwriting", "direction", "line separator", "joined emoji"],
)
def test_what_would_be_obeyed_is_spelled_out(text: str, shown: str):
    """And nothing else is changed."""
    assert harmless(text) == shown


def test_reports_are_harmless_in_all_their_texts():
    """A sample is what a model wrote, a message may quote a row of data."""
    sample = Sample(prompt="hi", base="\x1b[31mred", tuned="ok")
    result = EvaluationResult(examples=1, base_loss=2.0, tuned_loss=1.0, samples=(sample,))
    outcome = Outcome(outcome="Failed", reason="DatasetInvalid", message="row 1: \x1b[2J", evaluation=result)

    read = parse_outcome(outcome_text(outcome))

    assert read is not None
    assert read.evaluation is not None
    assert (read.message, read.evaluation.samples[0].base) == ("row 1: \\x1b[2J", "\\x1b[31mred")
    assert parse_progress(progress_line(Progress(step=1, total_steps=2, phase="training"))) == Progress(
        step=1, total_steps=2, phase="training"
    )


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        ("one\nERROR forged", "'one\\nERROR forged'"),
        ("one\x1b[2Jtwo", "'one\\x1b[2Jtwo'"),
        ("two words", "'two words'"),
        ("it's", "it's"),
    ],
)
def test_one_entry_of_the_log_is_one_line(value: str, spelled: str):
    """A newline in a value cannot begin an entry of its own."""
    line = TextLines().format(logging.makeLogRecord({"msg": "pass", "levelname": "INFO", "error": value}))

    assert line.endswith(f" error={spelled}")
    assert line.isprintable()
