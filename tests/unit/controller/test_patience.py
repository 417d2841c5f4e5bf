"""How long a status that only passes by is held back."""

import pytest
from finetune_operator.controller.pace import Pace
from finetune_operator.controller.patience import Patience


@pytest.mark.parametrize(("write", "hold"), [(0.0, 1.0), (0.005, 1.0), (0.05, 5.0), (2.0, 30.0)])
def test_the_slower_writes_are_the_longer_is_held_back_what_tells_little(write: float, hold: float):
    """A second where the API server is idle, half a minute at most."""
    pace = Pace()
    for _ in range(200):
        pace.heard(write)

    assert Patience(pace).hold_seconds() == pytest.approx(hold, rel=1e-3)


def test_one_slow_write_is_no_load():
    """An average over about ten."""
    pace = Pace()
    pace.heard(0.05)

    assert pace.seconds == pytest.approx(0.005)
