"""What `finetune watch` draws on a terminal, and what it prints elsewhere: each news once."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.watch import panel, plain_lines
from rich.console import Console

BORN = "2026-11-23T10:00:00Z"


def training(step: int, seconds_remaining: int, message: str = "attempt 0 runs") -> FineTuneJob:
    """A job in training whose last condition says the message."""
    return a_job(
        message,
        phase="Training",
        progress={
            "step": step, "totalSteps": 20, "percent": 5 * step, "loss": "1.25", "lastReportTime": BORN,
            "secondsRemaining": seconds_remaining, "tokensPerSecond": "9500", "modelFlopUtilisation": "0.4",
        },
    )  # fmt: skip


def a_job(message: str, **status: Any) -> FineTuneJob:
    condition = {
        "type": "Reconciling",
        "status": "True",
        "reason": "Running",
        "message": message,
        "lastTransitionTime": BORN,
    }
    return FineTuneJob.model_validate(
        {
            "metadata": {"name": "tiny", "namespace": "team-a", "uid": "u", "generation": 1, "creationTimestamp": BORN},
            "spec": {
                "model": {"source": "hf://org/model"},
                "datasets": [{"source": "s3://bucket/train.jsonl"}],
                "output": {"destination": "s3://bucket/out"},
            },
            "status": {"conditions": [condition], **status},
        }
    )


def test_a_recording_repeats_nothing(capsys: pytest.CaptureFixture[str]):
    """The same step with another time left is no news; a sentence is printed when it is new, not on every line."""
    show = plain_lines()
    for job in (training(1, 95), training(1, 93), training(2, 90), training(2, 90, "a replica has ended")):
        show(job)
    lines = [printed.partition("  ")[2] for printed in capsys.readouterr().out.splitlines()]

    assert lines == [
        "Training  5% (1/20)  loss 1.25  9,500 tokens/s, 40 % MFU  1m35s left  Running: attempt 0 runs",
        "Training  10% (2/20)  loss 1.25  9,500 tokens/s, 40 % MFU  1m30s left",
        "Training  10% (2/20)  loss 1.25  9,500 tokens/s, 40 % MFU  1m30s left  Running: a replica has ended",
    ]


def test_the_panel_has_a_line_for_each_thing():
    """The bar and the time left are one line, and the sentence below them is whole."""
    console = Console(file=io.StringIO(), width=100)
    console.print(panel(training(10, 95), datetime(2026, 11, 23, 10, 5, tzinfo=UTC)))
    drawn = [line.strip("│ ").rstrip() for line in console.file.getvalue().splitlines()[1:-1]]

    assert drawn == [
        "phase     Training",
        "model     hf://org/model",
        "progress  50% (10/20)",
        f"{'━' * 30}{' ' * 32}1m35s left",
        "loss      1.25",
        "speed     9,500 tokens/s, 40 % MFU",
        "Training: Running: attempt 0 runs",
    ]
