"""Signs of life where nothing of ours is called for long: loading and writing large checkpoints."""

import threading
from pathlib import Path

import pytest
from finetune_trainer.runtime import heartbeat
from finetune_trainer.runtime.heartbeat import Heartbeat, newest_beat

DEADLINE_SECONDS = 10


class Heard(Heartbeat):
    """A heartbeat that a test can wait for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, rank=0)
        self.beaten = threading.Event()

    def beat(self) -> None:
        super().beat()
        self.beaten.set()


def test_it_beats_by_itself_from_keep_beating_until_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And can be asked to again. Afterwards no thread is left that could beat."""
    monkeypatch.setattr(heartbeat, "BUSY_SECONDS", 0.01)
    pulse, threads = Heard(tmp_path), threading.active_count()
    for _ in range(2):
        before = newest_beat(tmp_path)
        pulse.beaten.clear()
        pulse.keep_beating()
        beaten = pulse.beaten.wait(DEADLINE_SECONDS)
        pulse.enough()

        assert (beaten, newest_beat(tmp_path) > before, threading.active_count()) == (True, True, threads)
