"""Two replicas with one process each, as the operator starts them: torchrun over gloo. And that layout changes no result."""

import os
import re
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
from finetune_contract import Outcome, RunConfig

from tests.trainer.running import IN_PROCESS, PACED, Container, container, free_port, losses, trained, until
from tests.trainer.tiny import a_run, changed, conversations, tiny_model

pytestmark = IN_PROCESS

TWO = {"replicas": 2, "micro_batch_size": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows between 1 and 40 words: the number of trained tokens differs by far between micro batches."""
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=60, longest=40)


def test_the_layout_does_not_change_what_is_learned(tmp_path: Path, model: Path, data: Path) -> None:
    """The same loss curve for (micro 4, accumulation 1), (1, 4) and two ranks: every token counts once, wherever it is."""
    runs = {
        "whole": a_run(tmp_path / "whole", model=model, data=data),
        "accumulated": a_run(
            tmp_path / "accumulated", model=model, data=data, micro_batch_size=1, gradient_accumulation_steps=4
        ),
        "spread": a_run(tmp_path / "spread", model=model, data=data, **TWO),
    }
    outcomes = {name: trained(runs[name], tmp_path / name) for name in ("whole", "accumulated")}
    (code, outcomes["spread"]), (other_code, other) = in_two_replicas(runs["spread"], tmp_path / "spread")

    assert (code, other_code, other.reason) == (0, 0, "Published")
    whole = losses(tmp_path / "whole")
    assert len(whole) == 8
    assert losses(tmp_path / "accumulated") == pytest.approx(whole, abs=2e-5)
    assert losses(tmp_path / "spread") == pytest.approx(whole, abs=2e-5)
    tuned = [outcome.evaluation.tuned_loss for outcome in outcomes.values() if outcome.evaluation]
    assert tuned == pytest.approx([tuned[0]] * 3, abs=2e-5)
    base = [outcome.evaluation.base_loss for outcome in outcomes.values() if outcome.evaluation]
    assert base == pytest.approx([base[0]] * 3, abs=1e-6)


def test_no_class_of_models_weighs_micro_batches_alike(tmp_path: Path, data: Path) -> None:
    """Gemma 4's class, as those of most vision models, says that it takes no number of tokens: it counts all the same."""
    gemma = tiny_model(tmp_path / "gemma", "gemma4")
    whole, accumulated = (
        a_run(tmp_path / name, model=gemma, data=data, max_steps=4, prompts=(), baseline=False, **layout)
        for name, layout in {
            "whole": {},
            "accumulated": {"micro_batch_size": 1, "gradient_accumulation_steps": 4},
        }.items()
    )
    for run, name in ((whole, "whole"), (accumulated, "accumulated")):
        trained(run, tmp_path / name)

    assert losses(tmp_path / "accumulated") == pytest.approx(losses(tmp_path / "whole"), abs=2e-5)


def test_sigterm_to_one_replica_saves_both_and_the_resumed_run_is_the_same(
    tmp_path: Path, model: Path, data: Path
) -> None:
    """One replica hears SIGTERM: both end with 85 and one checkpoint; the next attempt equals an uninterrupted run."""
    long = {"max_steps": 30, "prompts": (), "baseline": False, "dropout": 0.1, **TWO}
    whole = a_run(tmp_path / "whole", model=model, data=data, **long)
    in_two_replicas(whole, tmp_path / "whole")
    run = a_run(tmp_path / "cut", model=model, data=data, **long)
    with ExitStack() as stack:
        first, second = two_replicas(stack, (run, run), tmp_path / "cut", **PACED)
        first.wait_for(lambda report: report.phase == "training" and report.step >= 1)
        second.process.send_signal(signal.SIGTERM)
        (code, outcome), (other_code, _other) = first.wait(), second.wait()
    assert (code, other_code, outcome.outcome) == (85, 85, "Preempted")
    assert outcome.checkpoint_step == outcome.step
    (code, _), _ = in_two_replicas(changed(run, attempt=1), tmp_path / "cut" / "again")

    assert code == 0
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_a_lost_replica_ends_the_other_with_a_reason(tmp_path: Path, model: Path, data: Path) -> None:
    """SIGKILL of one replica: the other says that it lost it, and does not wait for ever."""
    run = a_run(tmp_path, model=model, data=data, max_steps=200, prompts=(), baseline=False, **TWO)
    with ExitStack() as stack:
        first, second = two_replicas(stack, (run, run), tmp_path, **PACED)
        first.wait_for(lambda report: report.phase == "training" and report.step >= 1)
        second.process.kill()
        code, outcome = first.wait()

    assert (code, outcome.outcome, outcome.reason) == (1, "Failed", "CommunicationTimeout")
    assert re.fullmatch(
        r"the connection to the process at 127.0.0.1 was lost while training at step \d+: that process ended, or the network "
        "between the Pods failed. Its own Pod says which",
        outcome.message,
    )


@pytest.mark.parametrize(
    ("number", "reason", "what"),
    [
        (signal.SIGKILL, "Killed", "was killed by signal 9 (SIGKILL)"),
        (signal.SIGSEGV, "TrainerError", "crashed with signal 11 (SIGSEGV)"),
    ],
)
def test_a_killed_rank_is_named_and_not_what_the_others_say_of_it(
    tmp_path: Path, model: Path, data: Path, number: int, reason: str, what: str
) -> None:
    """Rank 1 of one Pod ends by a signal; rank 0 has lost a connection, which is not why the run ended."""
    run = a_run(
        tmp_path, model=model, data=data, max_steps=200, prompts=(), baseline=False, gpus_per_replica=2,
        micro_batch_size=2,
    )  # fmt: skip
    with container(run, tmp_path, MASTER_PORT=free_port(), **PACED) as pod:
        pod.wait_for(lambda report: report.phase == "training" and report.step >= 1)
        os.kill(int((tmp_path / "workspace" / "run" / "heartbeat-1").read_text()), number)
        code, outcome = pod.wait()

    assert (code, outcome.outcome, outcome.reason) == (1, "Failed", reason)
    assert outcome.message == f"rank 1 (replica 0, GPU 1) {what}"


def test_a_hung_run_tells_who_waits_and_who_is_waited_for(tmp_path: Path, model: Path, data: Path) -> None:
    """Rank 1 is stopped: rank 0's stack is in the log, and it stands where ranks wait for each other."""
    run = a_run(
        tmp_path, model=model, data=data, max_steps=200, prompts=(), baseline=False, gpus_per_replica=2,
        micro_batch_size=2, stall_seconds=40,
    )  # fmt: skip
    with container(run, tmp_path, MASTER_PORT=free_port(), **PACED) as pod:
        pod.wait_for(lambda report: report.phase == "training" and report.step >= 1)
        stopped = int((tmp_path / "workspace" / "run" / "heartbeat-1").read_text())
        os.kill(stopped, signal.SIGSTOP)
        until(lambda: "The stacks of all processes follow" in pod.log.read_text(), pod)
        os.kill(stopped, signal.SIGKILL)  # else the run has three minutes to save
        code, outcome = pod.wait()

    assert (code, outcome.reason) == (1, "Stalled")
    assert re.fullmatch(
        r"no step for 40 s: rank 0 (waits in a collective \(\w+\)|is in the backward pass); rank 1 is stopped \(SIGSTOP\). "
        "The others wait for rank 1. The stacks of all processes are in the log",
        outcome.message,
    )
    assert "--- rank 0\n" in pod.log.read_text()
    assert "most recent call first" in pod.log.read_text()


def two_replicas(
    stack: ExitStack, runs: tuple[RunConfig, RunConfig], folder: Path, **environment: str
) -> tuple[Container, Container]:
    """Start both trainer Pods of a gang, each with what it was told."""
    port = free_port()
    rendezvous = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "PET_NNODES": "2", "PET_NPROC_PER_NODE": "1",
        "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port, **environment,
    }  # fmt: skip
    first, second = (
        stack.enter_context(container(run, folder / f"replica-{rank}", RANK=rank, PET_NODE_RANK=rank, **rendezvous))
        for rank, run in zip(("0", "1"), runs, strict=True)
    )
    return first, second


def in_two_replicas(run: RunConfig, folder: Path) -> tuple[tuple[int, Outcome], tuple[int, Outcome]]:
    """Run both replicas to their end; only the first one reports progress."""
    with ExitStack() as stack:
        first, second = two_replicas(stack, (run, run), folder)
        ends = first.wait(), second.wait()
    assert not second.progress()
    return ends
