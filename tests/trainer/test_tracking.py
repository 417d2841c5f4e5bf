"""The run in TensorBoard's files and on a real MLflow server; a tracker that fails costs a line in the log and nothing else."""

import json
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from finetune_contract import Evaluation, Location, Metric, Outcome, Tracker
from finetune_trainer.journal.keeper import Keeping
from finetune_trainer.training.trackers import FIXED
from tensorboardX.proto.event_pb2 import Event
from wandb.proto.wandb_internal_pb2 import Record

from tests.servers.mlflow import mlflow_server
from tests.servers.trackio import TOKEN, silent_server, trackio_server
from tests.trainer.running import IN_PROCESS, free_port, trained
from tests.trainer.test_metrics import reviews
from tests.trainer.tiny import a_run, tiny_model

pytestmark = IN_PROCESS

FILES = Tracker(type="tensorboard", location=Location(uri=""), project="tiny")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the figures of TensorBoard's files: records of length, checksum, message, checksum."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.*")):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            event = Event.FromString(data[place + 12 : place + 12 + length])
            place += length + 16
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append((event.step, round(value.simple_value, 4)))
    return found


def logged(file: Path) -> Iterator[bytes]:
    """Read the records of a file of Weights & Biases: LevelDB's log, in blocks of 32 KiB, after a head of seven bytes."""
    data, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        _, length, kind = struct.unpack_from("<IHB", data, place) if left >= 7 else (0, 0, 0)
        if not kind:  # what is left of a block is empty
            place += left
            continue
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def tracked(folder: Path, *trackers: Tracker) -> Outcome:
    evaluation = Evaluation(fraction=0.2, max_examples=20, every_steps=2, metrics=(Metric(name="label", type="label"),))
    run = a_run(
        folder, model=tiny_model(folder / "m"), data=reviews(folder / "d.jsonl", rows=80), evaluation=evaluation, trackers=trackers,
        max_steps=4,
    )  # fmt: skip
    return trained(run, folder)


def test_tensorboard_shows_every_step_and_the_metrics(tmp_path: Path):
    """Beside the result; and what keeps the log keeps the files while the run goes on."""
    outcome = tracked(tmp_path, FILES)
    found = scalars(tmp_path / "out/evaluation/tensorboard")

    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4]
    assert [step for step, _ in found["eval/loss"]] == [2, 4]
    assert outcome.evaluation is not None
    assert found["eval/label"] == [(4, outcome.evaluation.metrics[0].tuned[0])]
    journal = tmp_path / "workspace/run/journal"
    with pytest.MonkeyPatch.context() as node:
        node.setenv("FINETUNE_ALLOW_FILE", "1")
        assert Keeping(journal, Location(uri=f"file://{tmp_path}/store"), "logs/u-1/attempt-0").store() == ""
    assert scalars(tmp_path / "store/logs/u-1/attempt-0/tensorboard") == found


def test_a_tracker_that_cannot_be_reached_never_stops_a_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """Nobody listens at this port; and a Secret that is missing sends nothing at all."""
    nowhere = Tracker(type="mlflow", location=Location(uri=f"http://127.0.0.1:{free_port()}"), project="tiny")
    outcome = tracked(tmp_path, nowhere, FILES)

    assert (outcome.outcome, outcome.reason) == ("Succeeded", "Published")
    assert (
        "tracker mlflow failed; nothing more is sent to it, and training continues: MlflowException"
        in capfd.readouterr().out
    )
    assert [step for step, _ in scalars(tmp_path / "out/evaluation/tensorboard")["train/loss"]] == [1, 2, 3, 4]


def test_only_the_login_of_a_server_reaches_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A Secret with the keys of a bucket beside it: they would become the identity of whatever has no Secret of its own."""
    (tmp_path / "secret").mkdir()
    for key, value in {"MLFLOW_TRACKING_TOKEN": "t-123456", "AWS_ACCESS_KEY_ID": "bucket-key"}.items():
        (tmp_path / "secret" / key).write_text(value)
    monkeypatch.setenv("FINETUNE_SECRETS", f"shared={tmp_path}/secret")
    for key in ("AWS_ACCESS_KEY_ID", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.setenv(key, "")  # so that it is taken back
        del os.environ[key]
    place = Location(uri=f"http://127.0.0.1:{free_port()}", secret="shared")
    tracked(tmp_path, Tracker(type="mlflow", location=place, project="tiny"))

    assert os.environ["MLFLOW_TRACKING_TOKEN"] == "t-123456"
    assert "AWS_ACCESS_KEY_ID" not in os.environ


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[str]:
    """A Secret with the logins of servers. What the libraries read is taken back from the environment at the end."""
    (tmp_path / "secret").mkdir()
    for key, value in {"WANDB_API_KEY": "k" * 40, "TRACKIO_WRITE_TOKEN": TOKEN}.items():
        (tmp_path / "secret" / key).write_text(value)
    before = dict(os.environ)
    os.environ["FINETUNE_SECRETS"] = f"t={tmp_path}/secret"
    yield "t"
    wandb.teardown()  # it reads its environment once in a process
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_a_server_that_never_answers_does_not_hold_up_the_end(
    tmp_path: Path, secret: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kind: str
):
    """The real library at a server that takes connections and says nothing: it gives up, or is left behind, and the log says so."""
    monkeypatch.setattr("finetune_trainer.training.tracking.FAREWELL_SECONDS", 3.0)
    monkeypatch.setattr("finetune_trainer.training.trackers.REACHED_SECONDS", 2.0)
    monkeypatch.setitem(FIXED, "wandb", FIXED["wandb"] | {"WANDB_INIT_TIMEOUT": "2", "WANDB_FINISH_TIMEOUT": "3"})
    with silent_server() as url:
        outcome = tracked(tmp_path, Tracker(type=kind, location=Location(uri=url, secret=secret), project="tiny"))

    assert (outcome.outcome, outcome.reason) == ("Succeeded", "Published")
    said = capfd.readouterr().out
    assert re.search(f"tracker {kind} (failed; nothing more is sent|did not finish writing within 3 s)", said)


def test_weights_and_biases_that_cannot_be_reached_never_stop_a_run(
    tmp_path: Path, secret: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Nobody listens at this port: the library gives up, and says why."""
    monkeypatch.setitem(FIXED, "wandb", FIXED["wandb"] | {"WANDB_INIT_TIMEOUT": "2"})
    place = Location(uri=f"http://127.0.0.1:{free_port()}", secret=secret)
    outcome = tracked(tmp_path, Tracker(type="wandb", location=place, project="team/tiny"))

    assert (outcome.outcome, outcome.reason) == ("Succeeded", "Published")
    assert (
        "tracker wandb failed; nothing more is sent to it, and training continues: CommError" in capfd.readouterr().out
    )


def test_weights_and_biases_get_every_step(tmp_path: Path, secret: str, monkeypatch: pytest.MonkeyPatch):
    """Without its service the library writes what it would send into a file: figures, and nothing of the machine."""
    monkeypatch.setitem(FIXED, "wandb", FIXED["wandb"] | {"WANDB_MODE": "offline"})
    tracked(tmp_path, Tracker(type="wandb", location=Location(uri="", secret=secret), project="team/tiny"))
    (file,) = (tmp_path / "workspace/trackers/wandb").rglob("*.wandb")
    records = [Record.FromString(data) for data in logged(file)]
    losses = [
        json.loads(item.value_json) for record in records for item in record.history.item
        if (item.key or "/".join(item.nested_key)) == "train/loss"
    ]  # fmt: skip
    runs = [record.run for record in records if record.HasField("run")]

    assert len(losses) == 4
    assert {(run.entity, run.project, run.run_group, run.display_name, tuple(run.tags)) for run in runs} == {
        ("team", "tiny", "team-a/tiny", "team-a/tiny", ("attempt-0",))
    }
    assert {run.host for run in runs} == {"team-a/tiny"}
    kinds = {record.WhichOneof("record_type") for record in records}
    assert kinds <= {"header", "run", "history", "summary", "telemetry", "config", "metric", "exit", "request"}


def test_a_trackio_server_has_the_run(tmp_path: Path, secret: str):
    """On its own server: losses by step, and the metrics of the tuned model."""
    with trackio_server(tmp_path / "server") as server:
        outcome = tracked(
            tmp_path, Tracker(type="trackio", location=Location(uri=server.url, secret=secret), project="triage")
        )
        losses, metric = server.figures("triage", "train/loss"), server.figures("triage", "eval/label")

    assert outcome.evaluation is not None
    assert len(losses) == 4
    assert metric == [outcome.evaluation.metrics[0].tuned[0]]


@pytest.mark.trackers
def test_an_mlflow_server_has_the_run(tmp_path: Path):
    """In the experiment of the job, with its losses by step and the metrics of both models, finished."""
    (tmp_path / "server").mkdir()
    with mlflow_server(tmp_path / "server") as server:
        outcome = tracked(tmp_path, Tracker(type="mlflow", location=Location(uri=server.url), project="triage"))
        experiment = server.ask("GET", "experiments/get-by-name", experiment_name="triage")["experiment"]
        (run,) = server.ask("POST", "runs/search", experiment_ids=[experiment["experiment_id"]])["runs"]
        losses = server.ask("GET", "metrics/get-history", run_id=run["info"]["run_id"], metric_key="loss")["metrics"]

    assert outcome.evaluation is not None
    figures = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    assert [int(one["step"]) for one in losses] == [1, 2, 3, 4]
    assert figures["eval_label"] == outcome.evaluation.metrics[0].tuned[0]
    assert figures["eval_loss"] == pytest.approx(outcome.evaluation.tuned_loss)
    assert (run["info"]["status"], run["info"]["run_name"]) == ("FINISHED", "team-a/tiny")
    assert {"finetune.dev/job-name": "team-a/tiny", "finetune.dev/attempt": "0"}.items() <= {
        tag["key"]: tag["value"] for tag in run["data"]["tags"]
    }.items()
