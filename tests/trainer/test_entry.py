"""The container as the kubelet sees it: exit codes, termination messages, signals. Real processes."""

import json
import os
import signal
from pathlib import Path

import pytest
from finetune_contract import CostSoFar, Layout, Outcome, parse_outcome, parse_progress
from finetune_operator.local.ports import free_port
from finetune_operator.local.processes import identify
from finetune_trainer.process import entry
from finetune_trainer.process.accelerator import no_accelerator, unusable

from tests.cluster.client import eventually
from tests.trainer.running import PACED, container, losses, until
from tests.trainer.tiny import a_run, changed, conversations, tiny_model

pytestmark = pytest.mark.trainer

LONG = {"max_steps": 200, "fraction": 0.1, "prompts": (), "baseline": False}
"""Long enough to be interrupted, where it is paced: forty seconds."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conversations(tmp_path_factory.mktemp("data") / "train.jsonl", rows=120)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, model: Path, data: Path) -> tuple[Path, Outcome]:
    """The run that the interrupted ones are compared with."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    told = CostSoFar(gpu_seconds=900, cost_usd="0.00")
    with container(a_run(folder, model=model, data=data, dropout=0.1, cost_so_far=told, **LONG), folder) as whole:
        code, outcome = whole.wait()
    assert (code, outcome.reason, outcome.step) == (0, "Published", 200)
    return folder, outcome


def test_the_log_holds_nothing_but_what_the_run_says(uninterrupted: tuple[Path, Outcome]) -> None:
    """Three sentences, progress lines and the outcome: no library warns, and none draws bars.

    A fourth, where measuring was quicker than storing what the last step had saved.
    """
    folder, outcome = uninterrupted
    *said, last = [line for line in (folder / "log").read_text().splitlines() if parse_progress(line) is None]

    assert [line for line in said if line != "waiting until the last checkpoint is stored"] == [
        "global batch 4 = micro batch 4 x accumulation 1 x 1 process(es); 200 steps x 4 = 7.41 passes over 108 rows",
        "8,192 of 115,008 parameters are trained",
        "float32 base, float32 adapter, float32 computation on cpu, sdpa attention",
    ]
    assert parse_outcome(last) == outcome


def test_an_attempt_is_counted_from_its_first_process_on(uninterrupted: tuple[Path, Outcome]) -> None:
    """Longer than the training, shorter than from the moment when its configuration was written to that of the manifest."""
    folder, _ = uninterrupted
    written = folder / "out/finetune-manifest.json"
    manifest, lasted = json.loads(written.read_text()), written.stat().st_mtime - (folder / "run.json").stat().st_mtime

    assert manifest["spent"].keys() == {"attemptSeconds", "gpus"}
    assert manifest["trainingSeconds"] < manifest["spent"]["attemptSeconds"] < lasted
    card = (folder / "out/adapter/README.md").read_text()
    assert "| spent before publishing | no GPU-hours: the run used a CPU |\n" in card


def test_sigterm_saves_and_the_resumed_run_is_the_same_run(
    tmp_path: Path, model: Path, data: Path, uninterrupted: tuple[Path, Outcome]
) -> None:
    """SIGTERM ends with 85 and a checkpoint; the next attempt repeats no loss and publishes the very same weights."""
    run = a_run(tmp_path, model=model, data=data, dropout=0.1, **LONG)
    with container(run, tmp_path / "first", **PACED) as first:
        first.wait_for(lambda report: report.phase == "training" and report.step >= 1)
        first.process.send_signal(signal.SIGTERM)
        code, outcome = first.wait()
    assert (code, outcome.outcome, outcome.reason) == (85, "Preempted", "Preempted")
    assert outcome.checkpoint_step == outcome.step
    assert 0 < outcome.step < 200
    with container(changed(run, attempt=1), tmp_path / "second") as second:
        code, resumed = second.wait()

    assert code == 0
    whole_folder, whole = uninterrupted
    assert losses(tmp_path) == losses(whole_folder)
    assert resumed.evaluation == whole.evaluation
    assert _weights(tmp_path) == _weights(whole_folder)


def test_sigkill_loses_nothing_but_the_steps_since_the_checkpoint(
    tmp_path: Path, model: Path, data: Path, uninterrupted: tuple[Path, Outcome]
) -> None:
    """A worker killed in the middle: exit code 137, reason Killed; the resumed run equals the uninterrupted one."""
    run = a_run(tmp_path, model=model, data=data, dropout=0.1, interval_seconds=1, **LONG)
    with container(run, tmp_path / "first", **PACED) as first:
        first.wait_for(lambda report: bool(report.checkpoint_step))
        (worker,) = first.workers()
        os.kill(worker, signal.SIGKILL)
        code, outcome = first.wait()
    assert (code, outcome.outcome, outcome.reason) == (137, "Failed", "Killed")
    assert outcome.message == "the trainer was killed by signal 9 (SIGKILL)"
    with container(changed(run, attempt=1), tmp_path / "second") as second:
        code, _resumed = second.wait()
        started_at = next(report.step for report in second.progress() if report.step)

    assert code == 0
    assert started_at > 0
    assert losses(tmp_path) == losses(uninterrupted[0])
    assert _weights(tmp_path) == _weights(uninterrupted[0])


def test_killing_the_entry_process_leaves_no_worker(tmp_path: Path, model: Path, data: Path) -> None:
    """The kernel ends the worker with its parent: nobody goes on holding the GPU."""
    with container(a_run(tmp_path, model=model, data=data, **LONG), tmp_path / "c", **PACED) as killed:
        killed.wait_for(lambda report: report.phase == "training")
        (worker,) = killed.workers()
        killed.process.kill()
        killed.process.wait()

        eventually(lambda: identify(worker) is None, "the worker is gone")


def test_before_the_first_step_there_is_nothing_to_save(tmp_path: Path, model: Path, data: Path) -> None:
    """SIGTERM while loading leaves at once, and counts as preempted."""
    with container(a_run(tmp_path, model=model, data=data, **LONG), tmp_path / "c") as loading:
        loading.wait_for(lambda report: report.phase == "loading")
        loading.process.send_signal(signal.SIGTERM)
        code, outcome = loading.wait()

    assert code == 85
    message = "asked to stop while loading at step 0; no checkpoint yet, 0 steps lost"
    assert outcome == Outcome(outcome="Preempted", reason="Preempted", message=message)


def test_a_worker_that_moves_again_after_a_stall_saves_what_it_has(tmp_path: Path, model: Path, data: Path) -> None:
    """No step for stall_seconds: it is said where the worker stands, and it is asked to save; the outcome is Stalled all the same."""
    run = a_run(tmp_path, model=model, data=data, **LONG)
    with container(changed(run, stall_seconds=40), tmp_path / "c", **PACED) as stalled:
        stalled.wait_for(lambda report: report.phase == "training" and report.step >= 1)
        (worker,) = stalled.workers()
        os.kill(worker, signal.SIGSTOP)
        until(lambda: "The stacks of all processes follow" in stalled.log.read_text(), stalled)
        os.kill(worker, signal.SIGCONT)
        code, outcome = stalled.wait()

    assert (code, outcome.outcome, outcome.reason) == (1, "Failed", "Stalled")
    assert outcome.message == (
        f"no step for 40 s: rank 0 is stopped (SIGSTOP); checkpoint of step {outcome.checkpoint_step} is complete. "
        "The stacks of all processes are in the log"
    )
    assert outcome.checkpoint_step


def test_without_a_gpu_the_trainer_says_so(tmp_path: Path, model: Path, data: Path) -> None:
    """A GPU Pod that finds no GPU fails: it never trains on the CPU in silence."""
    run = a_run(tmp_path, model=model, data=data)
    with container(run, tmp_path / "c", FINETUNE_DEVICE="cuda") as pod:
        code, outcome = pod.wait()

    assert (code, outcome.outcome, outcome.reason) == (87, "Failed", "NoAccelerator")
    assert outcome.message == (
        "the Pod sees no usable GPU (Found no NVIDIA driver on your system): check that its pool's nodes have an NVIDIA driver of r580 or "
        "newer and a device plugin, and that GPUPool.spec.resourceName names what they offer"
    )


def test_a_driver_that_is_too_old_is_told_in_torchs_words() -> None:
    """The Pod has a GPU then: only torch's sentence says what is wrong with it."""
    said = "The NVIDIA driver on your system is too old (found version 12080). Please update your GPU driver by downloading ..."

    assert no_accelerator(said).startswith(
        "the Pod sees no usable GPU (The NVIDIA driver on your system is too old (found version 12080)): check that its pool's nodes"
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be ...",
            "the GPU of this Pod (NVIDIA TITAN V) has compute capability 7.0, for which the trainer image has no kernels (it has sm_75, "
            "sm_90): choose a pool with another GPU type",
        ),
        (
            "CUDA driver error: operation not supported",
            "the GPU of this Pod (NVIDIA TITAN V) cannot map memory piece by piece, as most vGPUs: add PYTORCH_ALLOC_CONF with the value "
            "pinned_max_round_threshold_mb:64 to spec.pod.environment of the GPUPool, which turns expandable segments off",
        ),
        ("CUDA error: uncorrectable ECC error encountered", None),
    ],
)
def test_a_gpu_that_runs_no_kernel_is_told_at_the_start(said: str, told: str | None) -> None:
    """A type of which the plan knows the memory only, and a vGPU: else every attempt would end in CUDA's words."""
    assert unusable(said, name="NVIDIA TITAN V", capability="7.0", kernels=["sm_75", "sm_90", "compute_90"]) == told


def test_one_process_is_started_without_torchrun() -> None:
    """A single worker must not take the Pod's RANK and WORLD_SIZE, which count Pods, for its own."""
    layout = _layout(replicas=1, gpus=1)

    assert entry.command(layout)[1:] == ["-m", "finetune_trainer", "worker"]
    assert entry.environment(layout, {"RANK": "0", "WORLD_SIZE": "1", "HOME": "/h"}) == {"HOME": "/h"}


def test_several_processes_are_started_by_torchrun() -> None:
    """What the Pod says about rendezvous wins over what follows from the layout."""
    layout = _layout(replicas=2, gpus=4)
    given = {"RANK": "1", "MASTER_ADDR": "pod-0", "MASTER_PORT": "4711", "PET_MASTER_PORT": "4712"}

    assert entry.command(layout)[1:] == ["-m", "torch.distributed.run", "-m", "finetune_trainer", "worker"]
    assert entry.environment(layout, given) == given | {
        "PET_NNODES": "2", "PET_NPROC_PER_NODE": "4", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "pod-0",
        "PET_MAX_RESTARTS": "0", "PET_RDZV_CONF": "timeout=3600", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "86400",
    }  # fmt: skip


@pytest.mark.parametrize("rank", [0, 1])
def test_a_replica_waits_for_the_others_and_says_so_when_they_do_not_come(
    tmp_path: Path, model: Path, data: Path, rank: int
) -> None:
    """Longer than a step may take. The name of replica 0 does not resolve yet, or nobody comes to it."""
    port = str(free_port(set()))
    run = changed(a_run(tmp_path, model=model, data=data, stall_seconds=1), replicas=2)
    met = {"RANK": str(rank), "MASTER_ADDR": "127.0.0.1" if rank == 0 else "run-0-0.invalid", "MASTER_PORT": port}
    with container(run, tmp_path, PET_RDZV_CONF="timeout=8", **met) as waiting:
        code, outcome = waiting.wait()

    told, seconds = outcome.message.split(" within ")
    assert (code, outcome.reason, told) == (
        1, "CommunicationTimeout", f"the 2 replicas did not all meet at {met['MASTER_ADDR']}:{port}",
    )  # fmt: skip
    assert int(seconds.split()[0]) >= 8


@pytest.mark.parametrize(("cores", "gpus", "expected"), [(4.0, 1, "4"), (7.5, 4, "1"), (0.5, 1, "1")])
def test_a_worker_computes_with_its_share_of_the_cores(cores: float, gpus: int, expected: str) -> None:
    """At least one; without a limit the libraries decide."""
    layout = _layout(replicas=1, gpus=gpus)

    assert entry.threads(layout, cores) == {"OMP_NUM_THREADS": expected}
    assert entry.threads(layout, None) == {}


def _layout(*, replicas: int, gpus: int) -> Layout:
    return Layout(
        replicas=replicas, gpus_per_replica=gpus, micro_batch_size=1, gradient_accumulation_steps=1, zero_stage=0,
        offload="none", activation_checkpointing=False, attention="sdpa", loss_kernel="tiled",
    )  # fmt: skip


def _weights(folder: Path) -> bytes:
    return (folder / "out" / "adapter" / "adapter_model.safetensors").read_bytes()
