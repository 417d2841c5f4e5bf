"""Signs of life where nothing of ours is called for long: loading, writing large checkpoints, and long answers."""

import threading
from pathlib import Path

import pytest
from finetune_trainer.runtime import heartbeat
from finetune_trainer.runtime.heartbeat import Heartbeat, newest_beat
from finetune_trainer.training.asking import Interview
from finetune_trainer.training.train import prepare

from tests.trainer.running import IN_PROCESS, bench, local_node
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = IN_PROCESS

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


def test_every_token_of_an_answer_is_a_sign_of_life(tmp_path: Path) -> None:
    """With sharded weights a token may take a second, and one answer longer than a run may be silent."""
    data = conversations(tmp_path / "train.jsonl", rows=20)
    run = a_run(tmp_path, model=tiny_model(tmp_path / "qwen2", "qwen2"), data=data)
    beats: list[str] = []
    with local_node(tmp_path):
        session = prepare(run, bench(tmp_path, run))
        interview = Interview(
            trainer=session.loop.trainer, at_once=1, max_new_tokens=9, stops=session.rows.stops, row_tokens=64,
            beat=lambda: beats.append("beat"), keep_going=lambda: True,
        )  # fmt: skip
        (said,) = interview.generate([[5, 6, 7]]) or ()

    assert said.cut
    assert len(beats) == 9
