"""What `finetune watch` draws on a terminal, and what it prints elsewhere: each news once."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from finetune_operator.api.reasons import Phase
from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.watch_draw import plain_lines
from finetune_operator.cli.watch_view import NARROWEST, Seen, next_words, panel, sparkline
from finetune_operator.cli.watching import newest
from rich.console import Console

from tests.unit.planning.test_planner import planned

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
    show = plain_lines(True)
    for job in (training(1, 95), training(1, 93), training(2, 90), training(2, 90, "a replica has ended")):
        show(job)
    lines = [printed.partition("  ")[2] for printed in capsys.readouterr().out.splitlines()]

    assert lines == [
        "Training  5% (1/20)  loss 1.25  9,500 tokens/s, 40 % MFU  1m35s left  Running: attempt 0 runs",
        "Training  10% (2/20)  loss 1.25  9,500 tokens/s, 40 % MFU  1m30s left",
        "Training  10% (2/20)  loss 1.25  9,500 tokens/s, 40 % MFU  1m30s left  Running: a replica has ended",
    ]


def drawn(seen: Seen, width: int) -> list[str]:
    """Return the view as a terminal of some width shows it, without its frame."""
    console = Console(file=io.StringIO(), width=width)
    console.print(panel(seen, datetime(2026, 11, 23, 10, 5, tzinfo=UTC), width))
    return [line.strip("\u2502 ").rstrip() for line in console.file.getvalue().splitlines()[1:-1]]


def in_full() -> Seen:
    """A job that knows everything about itself."""
    status = {
        "phase": "Training",
        "plan": planned("8b").plan.model_dump(),
        "progress": {
            "step": 10, "totalSteps": 20, "percent": 50, "loss": "1.25", "evalLoss": "1.31", "lastReportTime": BORN,
            "secondsRemaining": 95, "tokensPerSecond": "9500", "modelFlopUtilisation": "0.4", "peakMemoryGiB": "31.20",
        },
        "attempts": [{"number": 1, "startTime": BORN, "runningTime": BORN}],
        "cost": {"costUSD": "0.40", "wastedUSD": "0.10"},
        "checkpoint": {"step": 8, "time": "2026-11-23T10:04:00Z"},
    }  # fmt: skip
    job = a_job("attempt 2 is running", **status)
    return Seen(
        job=job,
        plan=job.status.plan,
        losses=(3.0, 2.5, 2.0, 1.5, 1.25),
        event="10:04:10 Resumed: from step 6",
    )


def test_the_panel_has_a_line_for_each_thing():
    """What was planned stands beside what is, so that a run that goes wrong is seen early."""
    plan = in_full().job.status.plan
    speed = float(plan.estimate.tokens_per_second)

    assert drawn(in_full(), 100) == [
        "phase       Training  attempt 2",
        "model       hf://org/model",
        f"plan        {plan.summary}",
        "progress    " + "\u2501" * 42,
        "step 10/20, 50 %, 1m35s left",
        "loss        \u2588\u2586\u2584\u2582\u2581 1.25, held out 1.31",
        f"speed       9,500 tokens/s of {speed:,.0f} planned ({9500 / speed * 100:.0f} %), 40 % MFU",
        f"memory      31.20 of {plan.vram.total_gib} GiB planned, of {plan.vram.usable_gib} GiB per GPU",
        f"cost        $0.40 of ${plan.estimate.cost_usd} planned, $0.10 repeated or waited for",
        "checkpoint  step 8, 1m00s ago",
        f"next        {next_words(in_full().job, plan)}",
        "event       10:04:10 Resumed: from step 6",
        "Training: Running: attempt 2 is running",
    ]


@pytest.mark.parametrize("width", [60, 61, 80, 109, 110, 200])
def test_the_panel_fits_every_terminal(width: int):
    """From 60 columns; nothing that is said is cut."""
    console = Console(file=io.StringIO(), width=width)
    console.print(panel(in_full(), datetime(2026, 11, 23, 10, 5, tzinfo=UTC), width))
    lines = console.file.getvalue().splitlines()

    assert {len(line) for line in lines} == {max(NARROWEST, min(110, width))}
    assert "\u2026" not in console.file.getvalue()


@pytest.mark.parametrize(
    ("values", "width", "curve"),
    [
        ((), 10, ""),
        ((1.0,), 10, ""),
        ((1.0, 1.0), 10, "\u2581\u2581"),
        ((0.0, 7.0), 10, "\u2581\u2588"),
        ((8.0, 8.0, 4.0, 4.0, 0.0, 0.0), 3, "\u2588\u2585\u2581"),
    ],
)
def test_a_curve_has_at_most_as_many_columns_as_there_are(values: tuple[float, ...], width: int, curve: str):
    """Neighbours are averaged; two values are needed for a curve."""
    assert sparkline(values, width) == curve


def test_what_comes_next_follows_from_the_step():
    """An evaluation, the last step, the publishing."""
    job = in_full().job
    every, steps = job.status.plan.evaluate_every_steps, (0, 19, 20)
    said = [next_words(a_job("x", **at(job, step)), job.status.plan) for step in steps]

    assert said == [
        f"evaluation at step {every}" if every < 20 else "the last step, 20, then publishing",
        "the last step, 20, then publishing",
        "publish to s3://bucket/out",
    ]


def at(job: FineTuneJob, step: int) -> dict[str, Any]:
    progress = {"step": step, "totalSteps": 20, "percent": 5 * step, "lastReportTime": BORN}
    return {"phase": "Training", "plan": job.status.plan.model_dump(), "progress": progress}


def test_the_newest_event_is_shown_without_escapes():
    """By time, whatever their order; another one's words cannot clear the terminal."""
    events = [
        {"lastTimestamp": "2026-11-23T10:04:00Z", "reason": "Running", "message": "it\x1b[2J runs"},
        {"lastTimestamp": "2026-11-23T10:03:00Z", "reason": "Planned", "message": "a plan"},
    ]

    assert (newest(events), newest([]), newest([{}])) == ("10:04:00 UTC Running: it [2J runs", "", "")


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_is_drawn(phase: Phase):
    """A job in a queue too, which waits for Kueue."""
    assert drawn(Seen(job=a_job("the queue is full", phase=phase)), 100)[0] == f"phase       {phase}"


def test_the_end_says_what_became_better_and_where_everything_is():
    """Losses, metrics, the gate with its figures, the result and the forms that were made of it."""
    metric = {
        "name": "exact-match",
        "examples": 40,
        "tuned": "0.80",
        "tunedLow": "0.70",
        "tunedHigh": "0.90",
        "verdict": "better",
    }
    gate = {
        "type": "Promoted",
        "status": "False",
        "reason": "GateFailed",
        "message": "exact-match 0.70 is less than 0.75",
    }
    artifacts = [
        {
            "kind": kind,
            "uri": f"s3://bucket/out/{kind}",
            "digest": f"sha256:{'a' * 64}",
            "sizeBytes": 1,
            "checked": checked,
        }
        for kind, checked in (("adapter", ""), ("merged", "as base + adapter"))
    ]
    job = a_job(
        "published", phase="Succeeded", adapterURI="s3://bucket/out/adapter", artifacts=artifacts,
        conditions=[gate | {"lastTransitionTime": BORN}],
        evaluation={"examples": 40, "tunedLoss": "1.0", "tunedPerplexity": "2.7", "metrics": [metric]},
    )  # fmt: skip

    assert drawn(Seen(job=job), 100) == [
        "phase       Succeeded",
        "model       hf://org/model",
        "evaluation  loss 1.0 on 40 held-out rows; the base model was not measured",
        "exact-match 0.80 (0.70 to 0.90) on 40 rows: better",
        "gate        not passed: exact-match 0.70 is less than 0.75",
        "result      s3://bucket/out/adapter",
        "merged at s3://bucket/out/merged (as base + adapter)",
        "Succeeded",
    ]
