"""Two replicas whose storage does not look the same to both: nothing staged on one, a checkpoint that only one has seen."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from finetune_contract import Location, RunConfig

from tests.servers.versitygw import S3Server
from tests.trainer.running import IN_PROCESS, losses, stopped_at, trained
from tests.trainer.test_distributed import TWO, in_two_replicas, two_replicas
from tests.trainer.tiny import a_run, changed, conversations, tiny_model

pytestmark = IN_PROCESS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60, longest=20)


def spread(run: RunConfig) -> RunConfig:
    """The next attempt of a run, in two replicas."""
    return changed(run, attempt=1, **TWO)


def test_the_best_weights_reach_a_bucket_from_the_one_replica_that_has_them(
    tmp_path: Path, model: Path, data: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each Pod stages on a disk of its own, and only rank 0 writes weights: the other replica has nothing to upload."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    base = f"s3://{s3_server.bucket}/apart"
    run = a_run(
        tmp_path, model=model, data=data, max_steps=6, every_steps=2, early_stopping_patience=2, prompts=(),
        baseline=False, location=Location(uri=f"{base}/.checkpoints"), output=Location(uri=base), **TWO,
    )  # fmt: skip

    (code, outcome), (other_code, _other) = in_two_replicas(run, tmp_path)

    assert (code, other_code, outcome.reason) == (0, 0, "Published")
    assert s3_server.read("apart/.checkpoints/best-attempt-0-step-6/COMPLETE")


def test_replicas_go_on_from_one_checkpoint_whatever_each_of_them_sees(tmp_path: Path, model: Path, data: Path) -> None:
    """A cut-off attempt finished a checkpoint and a baseline between the looks of two processes: rank 0's look counts."""
    options = {"prompts": (), "max_steps": 8}
    run = a_run(tmp_path / "cut", model=model, data=data, **options)
    stopped_at(run, tmp_path / "cut", step=3)
    seen_late = tmp_path / "late"
    shutil.copytree(tmp_path / "cut" / "out" / ".checkpoints", seen_late)
    (tmp_path / "cut" / "out" / ".checkpoints" / "baseline.json").unlink()
    late = changed(run, location=Location(uri=f"file://{seen_late}"))
    trained(changed(late, output=Location(uri=f"file://{tmp_path}/late-out")), tmp_path / "workspace-late")
    (seen_late / "holder.json").unlink()
    trained(a_run(tmp_path / "whole", model=model, data=data, **options), tmp_path / "whole")
    with ExitStack() as stack:
        first, second = two_replicas(stack, (spread(run), spread(late)), tmp_path)
        (code, outcome), (other_code, _other) = first.wait(), second.wait()

    assert (code, other_code, outcome.reason) == (0, 0, "Published")
    assert "resuming from attempt-0-step-3" in first.log.read_text()
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), abs=2e-5)
    assert outcome.evaluation is not None
    assert outcome.evaluation.base_loss is not None
