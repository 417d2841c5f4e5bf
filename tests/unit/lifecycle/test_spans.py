"""A job's way as spans: each is told when it ends, once, with its figures."""

from datetime import UTC, datetime

from finetune_operator.api.status import AttemptStatus, FineTuneJobStatus
from finetune_operator.lifecycle.spans import Span, attempts

START, RAN, END = (f"2026-01-31T12:0{minute}:00Z" for minute in range(3))


def at(minute: int) -> datetime:
    return datetime(2026, 1, 31, 12, minute, tzinfo=UTC)


def with_attempt(**parts: object) -> FineTuneJobStatus:
    return FineTuneJobStatus(attempts=[AttemptStatus.model_validate({"number": 0, "startTime": START, **parts})])


def test_a_wait_ends_when_all_pods_have_a_node_and_an_attempt_at_its_end():
    """Neither is told again with a later status."""
    waiting, running = with_attempt(), with_attempt(runningTime=RAN)
    ended = with_attempt(runningTime=RAN, endTime=END, outcome="Failed", message="it broke", lastStep=7, gpuSeconds=480)
    queue = Span(name="queue", start=at(0), end=at(1), attributes={"attempt": 1})
    figures = {"attempt": 1, "outcome": "Failed", "steps": 7, "gpu_seconds": 480}
    attempt = Span(name="attempt", start=at(1), end=at(2), failed="it broke", attributes=figures)

    assert list(attempts(waiting, running)) == [queue]
    assert list(attempts(running, ended)) == [attempt]
    assert list(attempts(waiting, ended)) == [queue, attempt]
    assert list(attempts(ended, ended)) == []


def test_an_attempt_that_found_no_node_was_a_wait_only():
    """It held no GPU."""
    given_up = with_attempt(endTime=END, outcome="NotScheduled")

    assert list(attempts(with_attempt(), given_up)) == [
        Span(name="queue", start=at(0), end=at(2), attributes={"attempt": 1})
    ]
