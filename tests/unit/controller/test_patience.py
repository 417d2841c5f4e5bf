"""How long a status that only passes by is held back."""

import pytest
from finetune_operator.api.reasons import Phase
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.controller.pace import Pace
from finetune_operator.controller.patience import Patience

from tests.unit.lifecycle.lifecycle_builders import a_job


@pytest.mark.parametrize(("write", "hold"), [(0.0, 1.0), (0.005, 1.0), (0.05, 5.0), (2.0, 60.0)])
def test_the_slower_writes_are_the_longer_is_held_back_what_tells_little(write: float, hold: float):
    """A second where the API server is idle, a minute at most."""
    pace = Pace()
    for _ in range(200):
        pace.heard(write)

    assert Patience(pace).hold_seconds() == pytest.approx(hold, rel=1e-3)


def test_with_many_jobs_on_their_way_it_is_held_for_a_write_of_each():
    """300 of them, at 50 ms a write; with a hundred or fewer, 5 s."""
    pace, job = Pace(), a_job()
    for _ in range(200):
        pace.heard(0.05)
    patience = Patience(pace)
    held = []
    for number in range(300):
        one = job.model_copy(update={"metadata": job.metadata.model_copy(update={"uid": str(number)})})
        assert patience.left(one, FineTuneJobStatus(phase=Phase.PREFLIGHT)) > 0
        held.append(round(patience.hold_seconds(), 2))
    for number in range(250):
        patience.forget(str(number))

    assert (held[0], held[99], held[199], held[299]) == (5.0, 5.0, 10.0, 15.0)
    assert patience.hold_seconds() == pytest.approx(5.0, rel=1e-3)


def test_one_slow_write_is_no_load():
    """An average over about ten."""
    pace = Pace()
    pace.heard(0.05)

    assert pace.seconds == pytest.approx(0.005)
