"""The server's clock, whatever ours shows."""

import time
from datetime import UTC, datetime, timedelta

from finetune_operator.controller.clock import ServerClock


def told(clock: ServerClock, date: str, sent: float, received: float) -> datetime:
    """Return the server's time at the moment of `received`, within the second that a Date leaves open."""
    clock.heard(date, sent, received)
    return clock.now() - timedelta(seconds=time.monotonic() - received)


def test_before_any_answer_it_is_our_own():
    """Nothing else is known."""
    before = datetime.now(UTC)

    assert before <= ServerClock().now() <= datetime.now(UTC)


def test_the_servers_date_counts_and_not_our_clock():
    """A server of another year: what it says is now."""
    now = time.monotonic()

    there = told(ServerClock(), "Sat, 31 Jan 2026 12:00:00 GMT", now - 0.1, now)

    assert abs(there - datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)) < timedelta(seconds=0.1)


def test_several_answers_narrow_the_second_that_a_date_leaves_open():
    """Its second began between the two answers: the later one tells more."""
    clock, now = ServerClock(), time.monotonic()
    clock.heard("Sat, 31 Jan 2026 12:00:00 GMT", now - 10.1, now - 10.0)

    there = told(clock, "Sat, 31 Jan 2026 12:00:10 GMT", now - 0.5, now - 0.4)

    assert there >= datetime(2026, 1, 31, 12, 0, 10, tzinfo=UTC) - timedelta(seconds=0.1)
    almost = datetime(2026, 1, 31, 12, 0, 11, tzinfo=UTC) - timedelta(milliseconds=1)
    assert told(clock, "Sat, 31 Jan 2026 12:00:11 GMT", now - 0.1, now) >= almost


def test_a_server_whose_clock_is_set_back_is_followed():
    """The newest answer bounds it on both sides."""
    clock, now = ServerClock(), time.monotonic()
    clock.heard("Sat, 31 Jan 2026 12:00:00 GMT", now - 0.2, now - 0.1)

    there = told(clock, "Sat, 31 Jan 2026 11:00:00 GMT", now - 0.1, now)

    assert abs(there - datetime(2026, 1, 31, 11, 0, 1, tzinfo=UTC)) <= timedelta(seconds=1.2)


def test_an_answer_without_a_date_says_nothing():
    """A proxy has taken it."""
    clock = ServerClock()
    clock.heard("", 0.0, 1.0)

    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=60)
