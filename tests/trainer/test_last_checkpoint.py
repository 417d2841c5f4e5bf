"""The checkpoint of the last step: weights alone where nothing else is needed, on its way while the model is measured."""

import json
import shutil
import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from finetune_contract import Location, RunConfig
from finetune_trainer.checkpoints.checkpoints import holds_weights_alone
from finetune_trainer.checkpoints.uploads import IDLE
from finetune_trainer.training.held_out import HeldOut
from finetune_trainer.training.train import carry_out, prepare
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.cluster.client import eventually
from tests.servers.gate import Gate
from tests.servers.versitygw import S3Server
from tests.trainer.running import IN_PROCESS, PACED, Container, bench, container, local_node, trained, until
from tests.trainer.test_distributed import two_replicas
from tests.trainer.test_sharded import in_two_ranks, published
from tests.trainer.test_uploads import door
from tests.trainer.tiny import a_run, changed, conversations, tiny_model

__all__ = ["door"]

pytestmark = [*IN_PROCESS, pytest.mark.usefixtures("local_files")]

STOPPING: dict[str, Any] = {
    "max_steps": 6,
    "every_steps": 2,
    "early_stopping_patience": 1,
    "early_stopping_min_delta": 9.0,
}
"""Its best weights are those of step 2, and it ends at step 4."""

RANKS = {"gpus_per_replica": 2, "micro_batch_size": 2}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model in float32 and in bfloat16."""
    folder = tmp_path_factory.mktemp("bases")
    found = {"float32": tiny_model(folder / "float32"), "bfloat16": folder / "bfloat16"}
    AutoModelForCausalLM.from_pretrained(found["float32"], dtype=torch.bfloat16).save_pretrained(found["bfloat16"])
    AutoTokenizer.from_pretrained(found["float32"]).save_pretrained(found["bfloat16"])
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60)


def kept(folder: Path, name: str) -> bool:
    """Tell whether a checkpoint has weights alone."""
    return holds_weights_alone(path.name for path in (folder / "out/.checkpoints" / name).iterdir())


@pytest.mark.parametrize(
    ("stored", "stage", "parts", "alone"),
    [
        ("bfloat16", 0, {"precision": "mixed"}, True),
        ("float32", 0, {}, True),
        ("bfloat16", 2, {}, True),
        ("bfloat16", 3, {}, True),
        ("float32", 2, {}, False),
        ("float32", 2, STOPPING, True),
        ("float32", 0, {"method": "lora"}, True),
        ("float32", 0, {"method": "lora", "variant": "adalora", "max_steps": 10}, True),
        ("float32", 2, {"method": "lora"}, False),
    ],
)
def test_an_attempt_after_the_last_step_publishes_what_the_first_one_would(
    tmp_path: Path, bases: dict[str, Path], data: Path, stored: str, stage: int, parts: dict[str, Any], alone: bool,
) -> None:  # fmt: skip
    """The result is lost; the next attempt trains no step, measures, and publishes the very bits. Masters that are published are kept."""
    changes: dict[str, Any] = {
        "method": "full", "precision": "bf16", "learning_rate": 5e-4, "max_steps": 4,
        **(RANKS | {"zero_stage": stage} if stage else {}), **parts,
    }  # fmt: skip
    last = 4 if parts is STOPPING else changes["max_steps"]
    first, second = (a_run(tmp_path / name, model=bases[stored], data=data, **changes) for name in ("first", "second"))
    done = in_two_ranks(first, tmp_path / "first")[0] if stage else trained(first, tmp_path / "first")
    assert kept(tmp_path / "first", f"attempt-0-step-{last}") == alone
    shutil.copytree(tmp_path / "first/out/.checkpoints", tmp_path / "second/out/.checkpoints")

    again = replace(second, attempt=1)
    resumed = in_two_ranks(again, tmp_path / "second")[0] if stage else trained(again, tmp_path / "second")

    assert (resumed.outcome, resumed.step, resumed.training_seconds) == ("Succeeded", last, 0.0)
    assert resumed.evaluation == done.evaluation
    assert published(tmp_path / "second") == published(tmp_path / "first")


def test_weights_alone_fit_every_layout(tmp_path: Path, bases: dict[str, Path], data: Path) -> None:
    """An attempt on other GPUs goes on from them: what DeepSpeed shards is not there."""
    run = a_run(
        tmp_path, model=bases["bfloat16"], data=data, method="full", precision="bf16", learning_rate=5e-4, max_steps=4,
        prompts=(), baseline=False, zero_stage=2, **RANKS,
    )  # fmt: skip
    stopped, _log = in_two_ranks(run, tmp_path, SIGTERM_AT="4", expected="Preempted")
    assert stopped.message == "asked to stop at step 4 of 4; checkpoint of step 4 is complete"
    assert kept(tmp_path, "attempt-0-step-4")
    # an older trainer, which knows no such checkpoints, takes it for one of another layout
    assert json.loads((tmp_path / "out/.checkpoints/attempt-0-step-4/COMPLETE").read_text())["zeroStage"] == 0
    resumed, log = in_two_ranks(changed(run, attempt=1, zero_stage=3), tmp_path / "again")

    assert "resuming from attempt-0-step-4" in log
    assert (resumed.reason, resumed.step, resumed.training_seconds) == ("Published", 4, 0.0)


def test_a_replica_without_files_has_nothing_to_upload(tmp_path: Path, bases: dict[str, Path], data: Path) -> None:
    """Rank 0 gathers the weights; the other replica stages nothing."""
    run = a_run(
        tmp_path, model=bases["bfloat16"], data=data, method="full", max_steps=2, prompts=(), baseline=False, replicas=2,
        micro_batch_size=2,
    )  # fmt: skip
    with ExitStack() as stack:
        first, second = two_replicas(stack, (run, run), tmp_path)
        ends = [first.wait(), second.wait()]

    assert [(code, outcome.reason) for code, outcome in ends] == [(0, "Published"), (0, "Published")]
    assert kept(tmp_path, "attempt-0-step-2")


@pytest.fixture
def run(
    tmp_path: Path, bases: dict[str, Path], data: Path, s3_server: S3Server, request: pytest.FixtureRequest
) -> RunConfig:
    """A full fine-tune with one checkpoint, at its end, through the gate. Paced it takes four seconds: time to close the gate."""
    return a_run(
        tmp_path, model=bases["bfloat16"], data=data, method="full", max_steps=20, baseline=False, interval_seconds=0,
        location=Location(uri=f"s3://{s3_server.bucket}/{request.node.name}"),
    )  # fmt: skip


def measures_behind(door: Gate, pod: Container) -> None:
    """Return when the model is measured, while what the last step has saved cannot be stored."""
    pod.wait_for(lambda report: report.phase == "training" and report.step >= 1)
    door.hold()
    pod.wait_for(lambda report: report.phase == "evaluating")


def test_the_model_is_measured_while_the_last_checkpoint_is_on_its_way(
    tmp_path: Path, run: RunConfig, door: Gate
) -> None:
    """Nothing is published before it is stored."""
    with container(run, tmp_path / "c", **PACED) as pod:
        measures_behind(door, pod)
        until(lambda: "waiting until the last checkpoint is stored" in pod.log.read_text(), pod)
        before = pod.progress()[-1].checkpoint_step
        door.open()
        code, outcome = pod.wait()

    assert (before, code, outcome.reason, outcome.checkpoint_step) == (None, 0, "Published", 20)


def test_a_run_that_is_stopped_while_it_measures_stores_its_last_step_first(
    tmp_path: Path, run: RunConfig, door: Gate
) -> None:
    """What it measures is dropped; the next attempt measures again."""
    with container(run, tmp_path / "c", **PACED) as pod:
        measures_behind(door, pod)
        pod.process.send_signal(signal.SIGTERM)
        door.open()
        code, outcome = pod.wait()

    assert (code, outcome.reason, outcome.message) == (
        85, "Preempted", "asked to stop at step 20 of 20; checkpoint of step 20 is complete",
    )  # fmt: skip
    with container(changed(run, attempt=1), tmp_path / "again") as pod:
        code, outcome = pod.wait()
    assert (code, outcome.reason, outcome.step, outcome.training_seconds) == (0, "Published", 20, 0.0)


def test_a_measurement_that_fails_does_not_cost_the_last_step(
    tmp_path: Path, run: RunConfig, door: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process: it waits for the upload before it reports the failure."""

    def fails(_held_out: HeldOut) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(HeldOut, "ask", fails)
    with local_node(tmp_path / "workspace"):
        session = prepare(run, tools := bench(tmp_path / "workspace", run))
        with pytest.raises(RuntimeError, match="CUDA out of memory"):
            carry_out(run, tools, session)

    assert [found.step for found in session.loop.checkpoints.complete()] == [20]
    assert tools.reporter.current.checkpoint_step == 20


def test_a_question_is_not_waited_for_when_all_is_stored(
    tmp_path: Path, run: RunConfig, door: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer may take minutes, and a grace period has an end: SIGTERM ends the process while the model is still measured."""
    saves_first: list[bool] = []
    with local_node(tmp_path / "workspace"):
        asked = changed(run, prompts=("red cat", "blue dog"))
        session = prepare(asked, tools := bench(tmp_path / "workspace", asked))
        door.hold()
        generate = session.loop.trainer.model.generate

        def slowly(**options: Any) -> Any:
            saves_first.append(tools.interrupt.must_save)
            door.open()
            eventually(lambda: session.loop.uploads.look() == IDLE, "the checkpoint is there", seconds=60)
            session.loop.uploads.advance(IDLE)
            eventually(lambda: session.loop.uploads.look() == IDLE, "the checkpoint is marked", seconds=60)
            return generate(**options)

        monkeypatch.setattr(session.loop.trainer.model, "generate", slowly)
        carry_out(asked, tools, session)

    assert saves_first == [True, False]
