"""Signs of life where nothing of ours is called for long: loading and writing large checkpoints."""

import time
from pathlib import Path

import pytest
from finetune_trainer.runtime import heartbeat
from finetune_trainer.runtime.heartbeat import Heartbeat, newest_beat


def test_it_beats_by_itself_from_keep_beating_until_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And can be asked to again."""
    monkeypatch.setattr(heartbeat, "BUSY_SECONDS", 0.01)
    pulse = Heartbeat(tmp_path, rank=0)
    for _ in range(2):
        before = newest_beat(tmp_path)
        pulse.keep_beating()
        deadline = time.monotonic() + 10
        while newest_beat(tmp_path) <= before and time.monotonic() < deadline:
            time.sleep(0.01)
        pulse.enough()
        after = newest_beat(tmp_path)
        time.sleep(0.05)

        assert before < after == newest_beat(tmp_path)
