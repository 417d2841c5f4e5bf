"""Run the trainer as the tests need it: inside the test's process, or as the container would."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Location, Outcome, Progress, RunConfig, parse_outcome, parse_progress
from finetune_contract.wire import dumps
from finetune_operator.local import ports
from finetune_trainer.checkpoints.checkpoints import Checkpoints
from finetune_trainer.checkpoints.delivery import clear, deliver, mark
from finetune_trainer.runtime.heartbeat import Heartbeat
from finetune_trainer.runtime.interrupt import Interrupt
from finetune_trainer.runtime.progress import Reporter
from finetune_trainer.training.bench import Bench
from finetune_trainer.training.session import Session
from finetune_trainer.training.train import carry_out, prepare, train
from transformers import TrainerCallback, TrainerState

from tests.trainer.tiny import changed

DEADLINE_SECONDS = 180

PACED = {"PYTHONPATH": str(Path(__file__).parent / "paced")}
"""Environment of a container that is to be interrupted: its steps take so long that it is not over before."""

IN_PROCESS = [
    pytest.mark.trainer,
    # peft 0.21 asks transformers 5.23 for names that are deprecated until its version 6.
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning"),
]
"""Marks of the modules that run the libraries inside the test's process."""


def bench(folder: Path, run: RunConfig) -> Bench:
    """Return what a worker has at hand, for a run inside this process."""
    folder.mkdir(parents=True, exist_ok=True)
    return Bench(
        workspace=folder, device="cpu", reporter=Reporter(total_steps=run.training.max_steps),
        heartbeat=Heartbeat(folder / "run", rank=0), interrupt=Interrupt(leave=lambda: None),
    )  # fmt: skip


@contextmanager
def local_node(folder: Path) -> Iterator[None]:
    """Set the environment that a node of the local cluster gives a Pod."""
    with pytest.MonkeyPatch.context() as node:
        node.setenv("FINETUNE_ALLOW_FILE", "1")
        node.setenv("FINETUNE_WORKSPACE", str(folder))
        node.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        yield


def trained(run: RunConfig, folder: Path) -> Outcome:
    """Run the whole protocol inside this process."""
    with local_node(folder / "workspace"):
        return train(run, bench(folder / "workspace", run))


def carried_out(run: RunConfig, folder: Path, *callbacks: TrainerCallback) -> tuple[Session, Outcome]:
    """As trained, with the session to look into and callbacks that come before ours."""
    with local_node(folder / "workspace"):
        tools = bench(folder / "workspace", run)
        session = prepare(run, tools)
        for callback in callbacks:
            session.loop.trainer.callback_handler.callbacks.insert(0, callback)
        return session, carry_out(run, tools, session)


class _SigtermAt(TrainerCallback):
    """SIGTERM arrives while a step runs."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def stopped_at(run: RunConfig, folder: Path, *, step: int) -> Outcome:
    """Run inside this process until `step`, then hear SIGTERM."""
    with local_node(folder / "workspace"):
        tools = bench(folder / "workspace", run)
        before = signal.getsignal(signal.SIGTERM)
        tools.interrupt.install()
        try:
            session = prepare(run, tools)
            session.loop.trainer.callback_handler.callbacks.insert(0, _SigtermAt(step))
            return carry_out(run, tools, session)
        finally:
            signal.signal(signal.SIGTERM, before)


def whole_and_resumed(run: RunConfig, folder: Path) -> tuple[Outcome, Outcome]:
    """Train a run in one go, and once more in two attempts, the first of which hears SIGTERM at step 3."""
    whole = changed(
        run, output=Location(uri=f"file://{folder}/whole"), location=Location(uri=f"file://{folder}/whole/.checkpoints")
    )
    outcome = trained(whole, folder / "whole")
    stopped_at(run, folder / "cut", step=3)
    return outcome, trained(changed(run, attempt=1), folder / "again")


def answers_at(output: Path) -> list[dict[str, Any]]:
    """Return what both models answered, as it is kept beside the result."""
    return [json.loads(line) for line in (output / "evaluation/answers.jsonl").read_text().splitlines()]


def store_complete(checkpoints: Checkpoints, staged: Path, name: str, step: int) -> None:
    """Do inside this process what the uploader does for a staged folder."""
    clear(checkpoints, name)
    mark(checkpoints, name, step, deliver(checkpoints, staged, name))


def losses(folder: Path) -> list[float]:
    """Return the loss of every step of a run, from its newest checkpoint."""
    checkpoints = sorted(
        (folder / "out" / ".checkpoints").glob("attempt-*"), key=lambda path: int(path.name.split("-")[3])
    )
    history = json.loads((checkpoints[-1] / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def free_port() -> str:
    """Return a port for a rendezvous that is used seconds later: no outgoing connection is given it meanwhile."""
    return str(ports.free_port(set()))


class Container:
    """One trainer container: its entry process, its log, its termination message."""

    def __init__(self, run: RunConfig, folder: Path, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (folder / "workspace").mkdir(exist_ok=True)
        (folder / "run.json").write_text(dumps(run))
        self.log = folder / "log"
        self.environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "FINETUNE_DEVICE": "cpu", "FINETUNE_ALLOW_FILE": "1",
            "FINETUNE_RUN_CONFIG": str(folder / "run.json"), "FINETUNE_WORKSPACE": str(folder / "workspace"),
            "FINETUNE_TERMINATION_LOG": str(folder / "termination"), **environment,
        }  # fmt: skip
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "finetune_trainer", "train"]
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT)

    def wait(self) -> tuple[int, Outcome]:
        """Wait for the end; returns exit code and outcome."""
        code = self.process.wait(timeout=DEADLINE_SECONDS)
        message = self.folder / "termination"
        outcome = parse_outcome(message.read_text()) if message.is_file() else None
        assert outcome is not None, self.log.read_text()[-3000:]
        return code, outcome

    def progress(self) -> list[Progress]:
        """Return the progress lines so far."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [report for report in map(parse_progress, lines) if report is not None]

    def wait_for(self, condition: Callable[[Progress], bool]) -> Progress:
        """Wait for a progress line; fails with the log where the container ends first."""
        return until(lambda: next(filter(condition, self.progress()), None), self)

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return [int(path.read_text()) for path in (self.folder / "workspace" / "run").glob("heartbeat-*")]


def until(found: Callable[[], Any], container: Container) -> Any:
    """Poll until something is found; fails with the log at the deadline or where the container ends first."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if result := found():
            return result
        if container.process.poll() is not None:
            raise AssertionError(f"ended with {container.process.returncode}:\n{container.log.read_text()[-3000:]}")
        time.sleep(0.05)
    raise AssertionError(f"nothing in {DEADLINE_SECONDS} s:\n{container.log.read_text()[-3000:]}")


@contextmanager
def container(run: RunConfig, folder: Path, **environment: str) -> Iterator[Container]:
    """Start a container, and leave no process behind."""
    started = Container(run, folder, **environment)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()
