"""Which checkpoint counts: complete, of this run, of the latest attempt. On folders and on a real S3 server."""

from pathlib import Path

import pytest
from finetune_contract import Location, RunConfig
from finetune_trainer.checkpoints.checkpoints import Checkpoints
from finetune_trainer.checkpoints.delivery import prune
from finetune_trainer.errors import ReportedError
from finetune_trainer.storage import Role, open_location
from finetune_trainer.training.row_order import row_order

from tests.servers.versitygw import S3Server
from tests.trainer.running import IN_PROCESS, stopped_at, store_complete, trained
from tests.trainer.tiny import a_run, changed, conversations, tiny_model

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    return a_run(tmp_path, model=tmp_path / "model", data=tmp_path / "data")


def _checkpoints(run: RunConfig, scratch: Path) -> Checkpoints:
    return Checkpoints(open_location(run.checkpoint.location, Role.CHECKPOINT), run, scratch=scratch)


def _publish(run: RunConfig, scratch: Path, step: int) -> Checkpoints:
    checkpoints = _checkpoints(run, scratch)
    checkpoints.resume()
    return _saved(checkpoints, step)


def _saved(checkpoints: Checkpoints, step: int) -> Checkpoints:
    staged = checkpoints.staging() / f"checkpoint-{step}"
    staged.mkdir(parents=True)
    (staged / "trainer_state.json").write_text(str(step))
    store_complete(checkpoints, staged, checkpoints.named(step).name, step)
    return checkpoints


def _folders(run: RunConfig) -> list[str]:
    folder = Path(run.checkpoint.location.uri.removeprefix("file://"))
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def test_the_newest_complete_checkpoint_wins(run: RunConfig, tmp_path: Path) -> None:
    """A later attempt counts as newer, whatever its step; a folder without COMPLETE does not count and is removed."""
    _publish(run, tmp_path, 5)
    _publish(run, tmp_path, 9)
    _publish(changed(run, attempt=1), tmp_path, 7)
    unfinished = Path(run.checkpoint.location.uri.removeprefix("file://")) / "attempt-1-step-8"
    unfinished.mkdir()
    (unfinished / "optimizer.pt").write_text("half")
    third = _checkpoints(changed(run, attempt=2), tmp_path)

    found = third.resume()

    assert found is not None
    assert (found[0].name, (found[1] / "trainer_state.json").read_text()) == ("attempt-1-step-7", "7")
    assert _folders(run) == ["attempt-0-step-5", "attempt-0-step-9", "attempt-1-step-7"]


def test_a_resume_lists_the_destination_once(run: RunConfig, tmp_path: Path) -> None:
    """A bucket with many checkpoints takes its time for each list; the first attempt asks for the turns besides."""
    for step in (5, 9):
        _publish(run, tmp_path, step)
    resumed = _checkpoints(changed(run, attempt=1), tmp_path)
    listed, files = [], resumed.store.files
    resumed.store.files = lambda under="": listed.append(under) or files(under)  # type: ignore[method-assign,func-returns-value]

    found = resumed.resume()

    assert found is not None
    assert (found[0].step, listed) == (9, [""])


def test_a_damaged_checkpoint_is_passed_over(
    run: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One bit of the newest has changed, its size has not: the older one is taken, and the log names the file."""
    for step in (5, 9):
        _publish(run, tmp_path, step)
    broken = Path(run.checkpoint.location.uri.removeprefix("file://")) / "attempt-0-step-9"
    (broken / "trainer_state.json").write_text("8")
    resumed = _checkpoints(changed(run, attempt=1), tmp_path)

    found = resumed.resume()

    assert found is not None
    assert (found[0].name, resumed.newest_step) == ("attempt-0-step-5", 5)
    assert capsys.readouterr().out == (
        "checkpoint attempt-0-step-9 is damaged: 1 of 1 files differ from what was written (first trainer_state.json); "
        "looking for an older checkpoint\n"
    )
    assert [checkpoint.step for checkpoint in resumed.complete()] == [5]


def test_only_the_newest_are_kept(run: RunConfig, tmp_path: Path) -> None:
    """`keep` counts over attempts; the best slot in use is outside it."""
    for step in (3, 6, 9):
        checkpoints = _publish(run, tmp_path, step)
    for step in (3, 6):
        staged = checkpoints.staging() / f"best-{step}"
        staged.mkdir(parents=True)
        (staged / "adapter_model.safetensors").write_text(str(step))
        best = f"best-attempt-0-step-{step}"
        store_complete(checkpoints, staged, best, step)

    prune(checkpoints, best=best)

    assert _folders(run) == ["attempt-0-step-6", "attempt-0-step-9", "best-attempt-0-step-6"]


def test_an_attempt_that_was_overtaken_does_not_save(run: RunConfig, tmp_path: Path) -> None:
    """A process on a node that was cut off finds out when it saves."""
    cut_off = _checkpoints(run, tmp_path)
    cut_off.resume()
    _publish(changed(run, attempt=2), tmp_path, 4)

    with pytest.raises(ReportedError) as refusal:
        _saved(cut_off, 30)

    assert refusal.value.message == "attempt 3 has taken over from attempt 1"
    assert _folders(run) == ["attempt-2-step-4"]


def test_another_runs_checkpoints_do_not_count(run: RunConfig, tmp_path: Path) -> None:
    """Same destination, other digest: training starts from the base model."""
    _publish(run, tmp_path, 5)

    assert _checkpoints(changed(run, run_digest="sha256:other"), tmp_path).resume() is None


def test_a_sharded_checkpoint_is_not_loaded_by_another_layout(
    run: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """DeepSpeed's optimizer files belong to one stage and world size: the run starts again, and says so."""
    sharded = changed(run, zero_stage=2, replicas=2)
    _publish(sharded, tmp_path, 5)

    assert _checkpoints(changed(sharded, attempt=1, replicas=4), tmp_path).resume() is None
    assert capsys.readouterr().out == (
        "checkpoint attempt-0-step-5 was written at world size 2 and ZeRO stage 2 and cannot be loaded at world size 4 and stage 2: "
        "starting again at step 0\n"
    )


def test_after_a_change_of_the_layout_an_older_checkpoint_that_fits_is_used(
    run: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plain ones fit any number of processes; a newer one at ZeRO stage 2 does not."""
    _publish(run, tmp_path, 3)
    _publish(changed(run, attempt=1, zero_stage=2, replicas=2), tmp_path, 5)

    found = _checkpoints(changed(run, attempt=2, replicas=4), tmp_path).resume()

    assert found is not None
    assert found[0].name == "attempt-0-step-3"
    assert capsys.readouterr().out == (
        "checkpoint attempt-0-step-3 was written at world size 1 and ZeRO stage 0 and cannot be loaded at world size 2 and stage 2: "
        "starting again at step 0\n"
        "checkpoint attempt-1-step-5 was written at world size 2 and ZeRO stage 2 and cannot be loaded at world size 4 and stage 0: "
        "resuming from checkpoint attempt-0-step-3\n"
    )


def test_the_rows_of_a_step_do_not_depend_on_the_run_being_whole() -> None:
    """Every epoch sees each row once; a longer run begins as a shorter one."""
    order = row_order(10, steps=5, global_batch_size=4, seed=3)

    assert sorted(order[:10].tolist()) == list(range(10))
    assert sorted(order[10:].tolist()) == list(range(10))
    assert order[:10].tolist() != order[10:].tolist()
    assert row_order(10, steps=9, global_batch_size=4, seed=3)[:20].tolist() == order.tolist()


def test_a_run_resumes_from_a_bucket(tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints and output in S3: saved on SIGTERM, fetched by the next attempt, published with the manifest last."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    model, data = tiny_model(tmp_path / "model"), conversations(tmp_path / "data.jsonl", rows=40)
    base = f"s3://{s3_server.bucket}/tiny"
    run = a_run(tmp_path, model=model, data=data, prompts=(), output=Location(uri=base))
    run = changed(run, location=Location(uri=f"{base}/.checkpoints"))
    stopped = stopped_at(run, tmp_path / "first", step=3)
    resumed = trained(changed(run, attempt=1), tmp_path / "second")

    assert (stopped.outcome, stopped.checkpoint_step) == ("Preempted", 3)
    assert stopped.checkpoint_uri == f"{base}/.checkpoints/attempt-0-step-3"
    assert (resumed.reason, resumed.step) == ("Published", 8)
    assert resumed.artifacts[0].uri == f"{base}/adapter"
    assert s3_server.read("tiny/finetune-manifest.json")
