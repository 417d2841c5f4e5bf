"""Checkpoints on their way: stored by a process of its own, while the trainer trains. Against a real S3 server behind a gate."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Location, RunConfig
from finetune_trainer.checkpoints import uploads as module
from finetune_trainer.checkpoints.checkpoints import Checkpoints
from finetune_trainer.checkpoints.delivery import deliver
from finetune_trainer.checkpoints.uploads import RETRYING, Uploads
from finetune_trainer.errors import ReportedError
from finetune_trainer.storage import Role, open_location
from finetune_trainer.training.saver import Saver
from finetune_trainer.training.train import carry_out, prepare
from transformers import TrainerCallback, TrainerState

from tests.cluster.client import eventually
from tests.servers.gate import Gate, gate
from tests.servers.versitygw import S3Server
from tests.trainer.running import IN_PROCESS, PACED, bench, container, local_node, until
from tests.trainer.tiny import a_run, changed, conversations, tiny_model

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]


@pytest.fixture
def door(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """The gate in front of the S3 server that the environment names."""
    with gate(s3_server.endpoint) as built:
        for name, value in (s3_server.environment | {"AWS_ENDPOINT_URL": built.endpoint}).items():
            monkeypatch.setenv(name, value)
        yield built


@pytest.fixture
def run(tmp_path: Path, s3_server: S3Server, door: Gate, request: pytest.FixtureRequest) -> RunConfig:
    """A run whose checkpoints go through the gate; the model and data are only named."""
    base = a_run(tmp_path, model=tmp_path / "model", data=tmp_path / "data.jsonl", interval_seconds=3600)
    return changed(base, location=Location(uri=f"s3://{s3_server.bucket}/{request.node.name}"))


@pytest.fixture
def uploads(run: RunConfig, tmp_path: Path) -> Iterator[Uploads]:
    yield from begun(run, tmp_path)


@pytest.fixture
def on_a_volume(run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploads]:
    """The same at a claim, which is mounted in `volume`."""
    (tmp_path / "volume").mkdir()
    monkeypatch.setenv("FINETUNE_CLAIMS", f"team={tmp_path}/volume")
    there = changed(run, location=Location(uri="pvc://team/run/.checkpoints"))
    yield from begun(there, tmp_path)


def begun(run: RunConfig, folder: Path) -> Iterator[Uploads]:
    checkpoints = Checkpoints(open_location(run.checkpoint.location, Role.CHECKPOINT), run, scratch=folder / "scratch")
    checkpoints.resume()
    found = Uploads(checkpoints)
    yield found
    found.close()


def staged(uploads: Uploads, step: int) -> Path:
    """Stage a checkpoint."""
    folder = uploads.checkpoints.staging() / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text("x" * 100)
    return folder


def test_an_upload_that_takes_long_goes_on_beside_the_training(uploads: Uploads, door: Gate) -> None:
    """Nothing waits for it, and the checkpoint is not complete before all of it has arrived."""
    door.hold()
    uploads.begin(staged(uploads, 5), 5, best="")

    before = uploads.advance(uploads.look()), uploads.checkpoints.newest_step
    door.open()
    completed = uploads.finish()

    assert (before, completed, uploads.checkpoints.newest_step) == ((None, None), ["attempt-0-step-5"], 5)
    assert [found.step for found in uploads.checkpoints.complete()] == [5]
    assert not (uploads.checkpoints.staging() / "checkpoint-5").exists()


def test_a_checkpoint_behind_another_waits_for_it(uploads: Uploads, door: Gate) -> None:
    """Training does not. They arrive in the order in which they were staged."""
    door.hold()
    uploads.begin(staged(uploads, 5), 5, best="")
    slot = uploads.begin_best(staged(uploads, 7), 7)
    uploads.begin(staged(uploads, 9), 9, best=slot)
    uploads.advance(uploads.look())
    assert uploads.current is not None
    waiting = uploads.current.name
    door.open()

    assert (waiting, uploads.finish(slot)) == ("attempt-0-step-5", ["attempt-0-step-5", "best-attempt-0-step-7"])
    assert uploads.finish() == ["attempt-0-step-9"]
    assert [found.step for found in uploads.checkpoints.complete()] == [5, 9]


def test_a_bucket_that_does_not_answer_is_asked_again(
    uploads: Uploads, door: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log says so; when it answers again the checkpoint becomes complete."""
    door.refuse()
    uploads.begin(staged(uploads, 5), 5, best="")
    eventually(lambda: uploads.look() == RETRYING, "the upload fails", seconds=150)
    uploads.advance(RETRYING)
    door.open()

    assert uploads.finish() == ["attempt-0-step-5"]
    told = capsys.readouterr().out.splitlines()[0]
    assert told.startswith(
        "checkpoint attempt-0-step-5 could not be stored (attempt 1 of rank 0), retrying: the checkpoint destination s3://"
    )


def test_a_volume_that_is_gone_for_a_while_holds_nothing_up(
    on_a_volume: Uploads, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each failed attempt is told once."""
    folder = staged(on_a_volume, 5)
    (tmp_path / "volume").rename(tmp_path / "elsewhere")
    on_a_volume.begin(folder, 5, best="")
    eventually(lambda: on_a_volume.look() == RETRYING, "the upload fails")
    for _ in range(2):
        assert on_a_volume.advance(RETRYING) is None
    assert capsys.readouterr().out == (
        "checkpoint attempt-0-step-5 could not be stored (attempt 1 of rank 0), retrying: the volume of "
        f"pvc://team/run/.checkpoints is not mounted at {tmp_path}/volume\n"
    )
    (tmp_path / "elsewhere").rename(tmp_path / "volume")

    assert on_a_volume.finish() == ["attempt-0-step-5"]
    assert [found.step for found in on_a_volume.checkpoints.complete()] == [5]


def test_a_run_stops_before_more_work_is_at_risk_than_two_intervals(on_a_volume: Uploads, tmp_path: Path) -> None:
    """The last complete checkpoint is two hours old and a second, and the volume is gone."""
    folder = staged(on_a_volume, 5)
    (tmp_path / "volume").rename(tmp_path / "elsewhere")
    on_a_volume.begin(folder, 5, best="")
    eventually(lambda: on_a_volume.look() == RETRYING, "the upload fails")
    on_a_volume.safe_at = time.monotonic() - 7201

    with pytest.raises(ReportedError) as stopped:
        on_a_volume.advance(on_a_volume.look())

    assert (stopped.value.reason, stopped.value.message.partition(": ")[0]) == (
        "StorageUnavailable", "checkpoint attempt-0-step-5 could not be stored (attempt 1)",
    )  # fmt: skip
    assert stopped.value.message.endswith(
        "The run stops because 7,201 s of work since the last complete checkpoint are at risk; the limit is 7,200 s"
    )


def test_without_an_interval_the_last_checkpoint_is_tried_for_a_while(
    on_a_volume: Uploads, tmp_path: Path, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from the first failure: the run may have trained for days before its only save."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.0)
    on_a_volume.checkpoints.run = changed(on_a_volume.checkpoints.run, interval_seconds=0)
    on_a_volume.safe_at = time.monotonic() - 100_000
    folder = staged(on_a_volume, 5)
    (tmp_path / "volume").rename(tmp_path / "elsewhere")
    on_a_volume.begin(folder, 5, best="")

    with pytest.raises(ReportedError, match=r"could not be stored .* the volume of pvc://team"):
        on_a_volume.finish()


def test_an_overtaken_attempt_ends_at_its_next_step(uploads: Uploads, run: RunConfig, tmp_path: Path) -> None:
    """The uploader finds another attempt's name at the destination; nothing is marked complete."""
    successor = Checkpoints(uploads.checkpoints.store, changed(run, attempt=1), scratch=tmp_path / "other")
    successor.resume()
    uploads.begin(staged(uploads, 5), 5, best="")

    with pytest.raises(ReportedError, match="attempt 2 has taken over from attempt 1"):
        uploads.finish()

    assert successor.complete() == []


def test_a_killed_uploader_is_named(uploads: Uploads, door: Gate) -> None:
    """The run ends with what happened, and not by waiting for ever."""
    door.hold()
    uploads.begin(staged(uploads, 5), 5, best="")
    assert uploads._uploader is not None
    os.kill(uploads._uploader._process.pid, signal.SIGKILL)

    with pytest.raises(ReportedError, match="the process that uploads checkpoints was killed by signal 9"):
        uploads.finish()


def test_older_checkpoints_go_when_the_newer_one_is_complete(uploads: Uploads, run: RunConfig) -> None:
    """keep is 2; the best slot that the newest checkpoint names stays, the one before it goes."""
    for step in (3, 6, 9):
        slot = uploads.begin_best(staged(uploads, step), step)
        uploads.finish()
        uploads.begin(staged(uploads, step), step, best=slot)
        uploads.finish()

    folders = {file.path.partition("/")[0] for file in uploads.checkpoints.store.files()}
    assert folders == {"attempt-0-step-6", "attempt-0-step-9", "best-attempt-0-step-9", "holder.json"}
    marker = json.loads(uploads.checkpoints.store.read_text("attempt-0-step-9/COMPLETE") or "")
    assert (marker["sizeBytes"], list(marker["files"])) == (100, ["weights"])


class _Fails(TrainerCallback):
    """The step after a save fails."""

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        if state.global_step == 1:
            raise RuntimeError("CUDA out of memory")


def test_a_failure_of_the_training_does_not_cost_the_checkpoint_on_its_way(tmp_path: Path, run: RunConfig) -> None:
    """One process: it waits for the upload before it reports the failure."""
    model, data = tiny_model(tmp_path / "model"), conversations(tmp_path / "data.jsonl", rows=60)
    short = a_run(
        tmp_path,
        model=model,
        data=data,
        prompts=(),
        baseline=False,
        interval_seconds=1,
        location=run.checkpoint.location,
    )
    with local_node(tmp_path / "workspace"):
        session = prepare(short, tools := bench(tmp_path / "workspace", short))
        handler = session.loop.trainer.callback_handler
        saver = handler.callbacks[-1]
        assert isinstance(saver, Saver)
        handler.callbacks += [_Due(saver), _Fails()]
        with pytest.raises(RuntimeError, match="CUDA out of memory"):
            carry_out(short, tools, session)

    assert [found.step for found in session.loop.checkpoints.complete()] == [1]


class _Due(TrainerCallback):
    """A checkpoint is due at the end of the first step, however fast that is."""

    def __init__(self, saver: Saver) -> None:
        self.saver = saver

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self.saver._saved_at -= 2.0


def test_training_goes_on_while_a_checkpoint_is_held_up(tmp_path: Path, run: RunConfig, door: Gate) -> None:
    """The next one waits for it, says the log; at SIGTERM the newest state is stored before the container ends."""
    model, data = tiny_model(tmp_path / "model"), conversations(tmp_path / "data.jsonl", rows=60)
    long = a_run(
        tmp_path, model=model, data=data, max_steps=400, prompts=(), baseline=False, interval_seconds=1,
        location=run.checkpoint.location,
    )  # fmt: skip
    with container(long, tmp_path / "c", **PACED) as pod:
        pod.wait_for(lambda report: report.phase == "training" and report.step >= 1)
        door.hold()
        until(lambda: " is still being uploaded (" in pod.log.read_text(), pod)
        held_at = pod.progress()[-1].step
        pod.wait_for(lambda report: report.step > held_at)
        door.open()
        pod.wait_for(lambda report: bool(report.checkpoint_step))
        pod.process.send_signal(signal.SIGTERM)
        code, outcome = pod.wait()

    assert (code, outcome.reason, outcome.checkpoint_step) == (85, "Preempted", outcome.step)
    assert outcome.checkpoint_uri == f"{run.checkpoint.location.uri}/attempt-0-step-{outcome.step}"


def test_replicas_put_their_files_into_one_folder_of_a_volume(on_a_volume: Uploads, tmp_path: Path) -> None:
    """The first one moves its folder there; the other has a disk of its own, and copies."""
    checkpoints = on_a_volume.checkpoints
    other = Checkpoints(checkpoints.store, checkpoints.run, scratch=tmp_path / "other")
    other.holder = checkpoints.holder
    theirs = other.staging() / "checkpoint-5"
    theirs.mkdir(parents=True)
    (theirs / "rng_state_1.pth").write_text("y" * 10)

    parts = [
        deliver(checkpoints, staged(on_a_volume, 5), "attempt-0-step-5"),
        deliver(other, theirs, "attempt-0-step-5"),
    ]

    assert [(list(part.files), part.size_bytes) for part in parts] == [(["weights"], 100), (["rng_state_1.pth"], 10)]
    assert [file.path for file in checkpoints.store.files("attempt-0-step-5")] == [
        "attempt-0-step-5/rng_state_1.pth", "attempt-0-step-5/weights",
    ]  # fmt: skip
    assert not theirs.exists()
