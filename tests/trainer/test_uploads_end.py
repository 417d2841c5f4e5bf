"""Checkpoints on their way when training ends, or while better weights keep coming: nothing piles up, nothing is given up early."""

import time
from pathlib import Path

import pytest
from finetune_trainer.checkpoints import uploads as module
from finetune_trainer.checkpoints.uploads import FAILED, RETRYING, Uploads
from finetune_trainer.errors import ReportedError

from tests.cluster.client import eventually
from tests.servers.gate import Gate
from tests.trainer.running import IN_PROCESS
from tests.trainer.test_uploads import door, on_a_volume, run, staged, uploads

__all__ = ["door", "on_a_volume", "run", "uploads"]

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]


def test_better_weights_take_the_place_of_those_that_still_wait(uploads: Uploads, door: Gate) -> None:
    """A destination slower than the evaluations would fill the disk; what a waiting checkpoint names stays."""
    door.hold()
    first, second, third = (staged(uploads, step) for step in (5, 7, 9))
    uploads.begin(first, 5, best="")
    uploads.begin_best(second, 7)
    best = uploads.begin_best(third, 9)
    left = [folder.exists() for folder in (first, second, third)]
    uploads.begin(staged(uploads, 10), 10, best=best)
    uploads.begin_best(staged(uploads, 11), 11)
    door.open()

    assert left == [True, False, True]
    assert uploads.finish() == [
        "attempt-0-step-5",
        "best-attempt-0-step-9",
        "attempt-0-step-10",
        "best-attempt-0-step-11",
    ]


def test_after_the_last_step_no_more_work_is_at_risk(
    on_a_volume: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model may be measured for hours, and a storage that fails for a moment is asked again: for ten minutes."""
    on_a_volume.safe_at = time.monotonic() - 7201
    on_a_volume.ended = True
    folder = staged(on_a_volume, 5)
    (tmp_path / "volume").rename(tmp_path / "elsewhere")
    on_a_volume.begin(folder, 5, best="")
    eventually(lambda: on_a_volume.look() in (RETRYING, FAILED), "the upload fails")

    assert on_a_volume.look() == RETRYING
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(
        ReportedError, match=r"The run stops because \d+ s of work so far are at risk; the limit is 0 s$"
    ):
        on_a_volume.advance(on_a_volume.look())


def test_what_a_replica_should_have_staged_is_missed(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its part of the optimizer's states: without it the checkpoint would be complete, and useless."""
    monkeypatch.setenv("RANK", "1")
    gone = uploads.checkpoints.staging() / "checkpoint-5"
    uploads.begin(gone, 5, best="")
    with pytest.raises(ReportedError) as missed:
        uploads.finish()

    assert missed.value.message == f"the staged folder {gone} of attempt-0-step-5 is gone: nothing can be stored"


def test_of_weights_alone_another_replica_has_none(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0 gathers them."""
    monkeypatch.setenv("RANK", "1")
    uploads.begin(uploads.checkpoints.staging() / "checkpoint-5", 5, best="", alone=True)

    assert uploads.finish() == ["attempt-0-step-5"]
