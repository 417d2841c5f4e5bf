"""Two attempts, jobs or runs at one checkpoint destination: one of them holds it, and nothing of the others is believed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import MANIFEST_FILE, Location, RunConfig
from finetune_trainer.checkpoints.checkpoints import Checkpoints
from finetune_trainer.errors import ReportedError
from finetune_trainer.storage import Role, open_location
from transformers import TrainerCallback, TrainerState

from tests.servers.versitygw import S3Server
from tests.trainer.running import IN_PROCESS, carried_out, store_complete
from tests.trainer.tiny import a_run, changed, conversations, tiny_model

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    return a_run(tmp_path, model=tmp_path / "model", data=tmp_path / "data")


def holding(run: RunConfig, scratch: Path) -> Checkpoints:
    """The checkpoints of an attempt that has just begun."""
    checkpoints = Checkpoints(
        open_location(run.checkpoint.location, Role.CHECKPOINT), run, scratch=scratch / f"{run.uid}-{run.attempt}"
    )
    checkpoints.resume()
    return checkpoints


def save(checkpoints: Checkpoints, step: int) -> None:
    """Save a checkpoint of this step."""
    staged = checkpoints.staging() / f"checkpoint-{step}"
    staged.mkdir(parents=True)
    (staged / "weights").write_text("x" * 100)
    store_complete(checkpoints, staged, checkpoints.named(step).name, step)


def steps(checkpoints: Checkpoints) -> list[tuple[int, int]]:
    """(attempt, step) of the complete checkpoints, oldest first."""
    return [(found.attempt, found.step) for found in checkpoints.complete()]


def meanwhile(checkpoints: Checkpoints, act: Callable[[], Any]) -> None:
    """Let something happen between an upload and its marker."""
    upload = checkpoints.store.upload

    def interrupted(folder: Path, path: str = "") -> None:
        upload(folder, path)
        act()

    checkpoints.store.upload = interrupted  # type: ignore[method-assign]  # time passes there


@pytest.fixture
def in_bucket(run: RunConfig, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, request: Any) -> RunConfig:
    """The same run with its checkpoints in S3."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return changed(run, location=Location(uri=f"s3://{s3_server.bucket}/{request.node.name}"))


def test_a_checkpoint_whose_files_a_successor_cleared_away_is_never_complete(
    in_bucket: RunConfig, tmp_path: Path
) -> None:
    """An attempt on a node that was cut off uploads, its successor clears that away, then the first one wants to mark it."""
    cut_off = holding(in_bucket, tmp_path)
    meanwhile(cut_off, lambda: holding(changed(in_bucket, attempt=1), tmp_path))

    with pytest.raises(ReportedError, match="attempt 2 has taken over from attempt 1"):
        save(cut_off, 9)

    assert steps(holding(changed(in_bucket, attempt=2), tmp_path)) == []


def test_a_marker_without_the_files_that_it_counts_is_no_checkpoint(run: RunConfig, tmp_path: Path) -> None:
    """What a successor removed in the same moment: the marker says how much there was. The rest is cleared away."""
    first = holding(run, tmp_path)
    for step in (5, 9):
        save(first, step)
    folder = Path(run.checkpoint.location.uri.removeprefix("file://"))
    (folder / "attempt-0-step-9" / "weights").unlink()

    assert steps(holding(changed(run, attempt=1), tmp_path)) == [(0, 5)]
    assert not (folder / "attempt-0-step-9").exists()


def test_an_attempt_that_was_overtaken_removes_nothing(run: RunConfig, tmp_path: Path) -> None:
    """Its successor reads a checkpoint that the first one, saving on, would have counted as too old."""
    cut_off = holding(run, tmp_path)
    for step in (5, 9):
        save(cut_off, step)
    successor = holding(changed(run, attempt=1), tmp_path)
    for step in (12, 15):
        with pytest.raises(ReportedError, match="attempt 2 has taken over from attempt 1"):
            save(cut_off, step)

    assert steps(successor) == [(0, 5), (0, 9)]


def test_an_attempt_that_begins_after_its_successor_is_refused(run: RunConfig, tmp_path: Path) -> None:
    """A Pod that came up late, when the operator had given it up."""
    holding(changed(run, attempt=2), tmp_path)

    with pytest.raises(ReportedError, match="attempt 3 has taken over from attempt 2"):
        holding(changed(run, attempt=1), tmp_path)


def test_a_job_that_is_applied_again_goes_on_where_the_deleted_one_was(run: RunConfig, tmp_path: Path) -> None:
    """It counts its attempts from 0 again; its checkpoints are newer than those of attempt 3 all the same."""
    save(holding(changed(run, attempt=3), tmp_path), 50)
    again = changed(run, uid="u-2")
    save(holding(again, tmp_path), 60)

    assert steps(holding(changed(again, attempt=1), tmp_path)) == [(3, 50), (0, 60)]


def test_a_checkpoint_of_the_same_name_is_replaced_and_not_mixed(in_bucket: RunConfig, tmp_path: Path) -> None:
    """The deleted job's attempt 0 reached the same step: its files, and its marker while ours are uploaded, are gone."""
    earlier = holding(in_bucket, tmp_path)
    save(earlier, 9)
    earlier.store.write_text("attempt-0-step-9/shard-of-another-layout", "x")
    again = holding(changed(in_bucket, uid="u-2", run_digest="sha256:other"), tmp_path)
    seen: list[list[tuple[int, int]]] = []
    meanwhile(again, lambda: seen.append(steps(again)))

    save(again, 9)

    assert (seen, steps(again)) == ([[]], [(0, 9)])
    assert [file.path for file in again.store.files("attempt-0-step-9")] == [
        "attempt-0-step-9/COMPLETE", "attempt-0-step-9/weights"
    ]  # fmt: skip


def test_checkpoints_of_an_earlier_run_do_not_stop_this_one(run: RunConfig, tmp_path: Path) -> None:
    """The destination of another run that needed four attempts: nothing of it counts, its measurements neither."""
    earlier = holding(changed(run, attempt=3, run_digest="sha256:earlier"), tmp_path)
    save(earlier, 50)
    earlier.write_baseline({"loss": 9.0})
    mine = holding(run, tmp_path)
    save(mine, 5)

    assert (steps(mine), mine.read_baseline()) == ([(0, 5)], None)
    mine.write_baseline({"loss": 1.0})
    assert mine.read_baseline() == {"loss": 1.0}


def test_without_the_holders_file_a_run_counts_on_from_all_checkpoints(run: RunConfig, tmp_path: Path) -> None:
    """Somebody removed it, another run came and went: what this run saves next is newer than what it had saved."""
    for attempt in range(3):
        save(holding(changed(run, attempt=attempt), tmp_path), 50)
    Path(run.checkpoint.location.uri.removeprefix("file://"), "holder.json").unlink()
    holding(changed(run, uid="u-2", run_digest="sha256:other"), tmp_path)
    save(holding(changed(run, attempt=3), tmp_path), 40)

    assert steps(holding(changed(run, attempt=4), tmp_path))[-1] == (3, 40)


def test_two_runs_at_one_destination_are_told(run: RunConfig, tmp_path: Path) -> None:
    """The earlier one ends with what to do, instead of both overwriting each other's checkpoints."""
    mine = holding(run, tmp_path)
    holding(changed(run, uid="u-2", run_digest="sha256:other"), tmp_path)

    with pytest.raises(ReportedError) as refusal:
        save(mine, 5)

    assert (refusal.value.reason, refusal.value.message) == (
        "OutputOccupied",
        f"another run (sha256:other) has taken over the checkpoint destination {run.checkpoint.location.uri} from this run "
        "(sha256:run): set a different checkpoint.destination for each job",
    )


def test_what_a_killed_attempt_had_staged_is_removed(run: RunConfig, tmp_path: Path) -> None:
    """Killed while it saved: for a large model that is a terabyte on the user's volume."""
    killed = holding(run, tmp_path)
    (killed.staging() / "checkpoint-9").mkdir(parents=True)

    holding(changed(run, attempt=1), tmp_path)

    assert not killed.staging().exists()


class _Overtaken(TrainerCallback):
    """The next attempt begins while a step runs: the last one, after whose checkpoint only publishing is left."""

    def __init__(self, run: RunConfig, scratch: Path) -> None:
        self.run, self.scratch = run, scratch

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        holding(changed(self.run, attempt=1), self.scratch)


def test_an_attempt_that_was_overtaken_does_not_publish(tmp_path: Path) -> None:
    """Else files of two attempts would lie under one manifest."""
    model, data = tiny_model(tmp_path / "model"), conversations(tmp_path / "data.jsonl", rows=20)
    run = a_run(tmp_path, model=model, data=data, max_steps=2, prompts=(), baseline=False)

    with pytest.raises(ReportedError, match="attempt 2 has taken over from attempt 1"):
        carried_out(run, tmp_path, _Overtaken(run, tmp_path))

    assert not (tmp_path / "out" / MANIFEST_FILE).exists()
    assert not (tmp_path / "out" / "adapter").exists()
