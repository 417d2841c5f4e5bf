"""The container's first process: starts the workers, hears signals for them, watches that they move, reports how it ended.

torchrun would swallow exit codes, and nobody but the parent can dump the stacks of a worker that hangs: hence this process,
which imports no library. `python -m finetune_trainer train` runs it.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from types import FrameType

from finetune_contract import (
    ExitCode,
    Layout,
    Outcome,
    RunConfig,
)

from finetune_trainer.errors import UserError
from finetune_trainer.journal.keeper import Keeper
from finetune_trainer.journal.transcript import Transcript
from finetune_trainer.process import cgroup, standstill, verdict
from finetune_trainer.process.watched import killed
from finetune_trainer.process.worker import ENV_STARTED, journal_folder, run_folder
from finetune_trainer.runtime import heartbeat
from finetune_trainer.runtime.lifeline import die_with_parent
from finetune_trainer.storage.secrecy import redacted
from finetune_trainer.told import left, refused, told

POLL_SECONDS = 0.1
WATCH_SECONDS = 1.0
"""So often the workers' signs of life are read: files, which cost more to look at than whether the child still runs."""

SAVE_SECONDS = 180.0
"""So long a run that stands still gets to save a checkpoint, before it is killed."""

FAREWELL_SECONDS = 20.0
"""So long the other workers get to end by themselves when one has failed."""

SHUTDOWN_SECONDS = 24 * 3600
"""Longer than any grace period."""

MEETING_SECONDS = 3600
"""So long replicas wait for each other: one node may have to pull the image while the others have it. torchrun's own patience, 15
minutes, is shorter than that. The operator ends the wait where a Pod has failed."""

RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")
"""Set in PyTorchJob's sense (Pods, not processes): a single worker must not take them for its own."""


class Entry:
    """The workers of this replica and what happened to them."""

    def __init__(self, run: RunConfig) -> None:
        self.run = run
        self.started = time.monotonic()
        self.folder = run_folder()
        self.terminated = False
        self.stalled = ""
        """Who stood where when no step had ended for too long."""
        self.deadline = 0.0
        """When a run that stands still is killed."""
        self.child: subprocess.Popen[bytes] | None = None

    def main(self) -> int:
        """Run the workers to their end; returns the container's exit code. What is printed on the way is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        signal.signal(signal.SIGTERM, self._on_signal)
        keeper = Keeper(journal_folder())
        transcript = Transcript(journal_folder(), f"replica-{os.environ.get('RANK', '0')}")
        try:
            return self._see_through(transcript)
        finally:
            transcript.end()
            keeper.end()

    def _see_through(self, transcript: Transcript) -> int:
        self.child = subprocess.Popen(
            command(self.run.layout),
            env=threads(self.run.layout, cgroup.cpu_limit())
            | environment(self.run.layout, dict(os.environ))
            | {ENV_STARTED: str(self.started)},
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no thread runs yet
        )
        transcript.follow()
        started = looked = time.time()
        while self.child.poll() is None:
            time.sleep(POLL_SECONDS)
            if time.time() - looked < WATCH_SECONDS:
                continue
            looked = time.time()
            if self.stalled:
                if looked > self.deadline:
                    self._kill()
                continue
            failed = verdict.first_failure(self.folder)
            if failed is not None:
                if looked - failed > FAREWELL_SECONDS:
                    self._kill()  # torchrun would wait for ever for those that NCCL keeps waiting for the one that failed
            elif looked - max(started, heartbeat.newest_beat(self.folder)) > self.patience:
                self._end_stalled()
        return self._report(self.child.returncode)

    @property
    def patience(self) -> float:
        """Return how long nothing may move: before the first worker starts, torchrun waits for the other replicas."""
        return self.run.stall_seconds + (MEETING_SECONDS if self.alone else 0)

    @property
    def alone(self) -> bool:
        """No worker has started here, since there are other replicas and they have not all been met."""
        return self.run.layout.replicas > 1 and not heartbeat.processes(self.folder)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.child is None:
            os._exit(ExitCode.PREEMPTED)
        if self.terminated:
            self._kill()
        self.terminated = True
        self.child.send_signal(number)

    def _end_stalled(self) -> None:
        """Find out who stands where, ask for a checkpoint, and end what does not end by itself."""
        workers = heartbeat.processes(self.folder)
        states = {rank: standstill.state(pid) for rank, pid in workers.items()}
        for pid in workers.values():
            _send(pid, signal.SIGUSR1)
        stacks = standstill.dumped(self.folder)
        places = [standstill.place(rank, stacks[rank], states[rank]) for rank in workers]
        self.stalled = f"no step for {self.run.stall_seconds} s: {standstill.described(places)}"
        print(f"{self.stalled}. The stacks of all processes follow", file=sys.stderr, flush=True)
        for rank, text in stacks.items():
            print(f"--- rank {rank}\n{redacted(text)}", file=sys.stderr, flush=True)
        if self.child is not None:
            self.child.send_signal(signal.SIGTERM)  # a step that is only slow comes to its end, and is saved
        self.deadline = time.time() + SAVE_SECONDS

    def _kill(self) -> None:
        """End everything now. torchrun's workers are in sessions of their own, so each is named."""
        for pid in heartbeat.processes(self.folder).values():
            _send(pid, signal.SIGKILL)
        if self.child is not None:
            self.child.kill()

    def _report(self, returncode: int) -> int:
        outcome = self._outcome(returncode)
        print(left(outcome), flush=True)
        if outcome.reason in ("Killed", "HostOutOfMemory") and returncode < 0:
            return 128 - returncode
        return verdict.exit_code(outcome)

    def _outcome(self, returncode: int) -> Outcome:
        if self.stalled:
            said = verdict.read(self.folder)
            step = said.checkpoint_step if said is not None and said.outcome == "Preempted" else None
            kept = f"; checkpoint of step {step} is complete" if step else ""
            message = f"{self.stalled}{kept}. The stacks of all processes are in the log"
            return Outcome(outcome="Failed", reason="Stalled", message=message, step=step or 0, checkpoint_step=step)
        said = verdict.read(self.folder)
        if said is not None and not (said.reason == "Killed" and cgroup.ran_out_of_memory()):
            return said
        if self.terminated:
            message = "asked to stop; the training processes exited without saving anything since the last checkpoint"
            return Outcome(outcome="Preempted", reason="Preempted", message=message)
        if cgroup.ran_out_of_memory():
            who = said.message.partition(" was ")[0] if said is not None else "a training process"
            message = f"the kernel killed {who} because the Pod reached its memory limit"
            return Outcome(outcome="Failed", reason="HostOutOfMemory", message=message)
        if returncode < 0:
            return killed("the trainer" if self.run.layout.world_size == 1 else "torchrun", -returncode)
        if self.alone:
            return self._not_met()
        message = f"the training processes exited without reporting a result (exit code {returncode})"
        return Outcome(outcome="Failed", reason="Killed", message=message)

    def _not_met(self) -> Outcome:
        waited = round(time.monotonic() - self.started)
        where = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
        message = (
            f"the {self.run.layout.replicas} replicas did not all meet at {where} within {waited} s: check that the other Pods have "
            "started, that the cluster's DNS resolves this name, and that no NetworkPolicy keeps the Pods apart"
        )
        return Outcome(outcome="Failed", reason="CommunicationTimeout", message=message)


def command(layout: Layout) -> list[str]:
    """Return what to start: the worker itself for one process, torchrun for several."""
    worker = ["-m", "finetune_trainer", "worker"]
    if layout.world_size == 1:
        return [sys.executable, *worker]
    return [sys.executable, "-m", "torch.distributed.run", *worker]


def environment(layout: Layout, given: dict[str, str]) -> dict[str, str]:
    """Return the workers' environment. What the Pod says about rendezvous wins; the rest follows from the layout."""
    if layout.world_size == 1:
        return {name: value for name, value in given.items() if name not in RANK_VARIABLES}
    missing = {
        "PET_NNODES": str(layout.replicas),
        "PET_NPROC_PER_NODE": str(layout.gpus_per_replica),
        "PET_NODE_RANK": given.get("RANK", "0"),
        "PET_MASTER_ADDR": given.get("MASTER_ADDR", "127.0.0.1"),
        "PET_MASTER_PORT": given.get("MASTER_PORT", "29500"),
        "PET_RDZV_CONF": f"timeout={MEETING_SECONDS}",
        # A dead worker ends the attempt: the operator starts the next one from the checkpoint.
        "PET_MAX_RESTARTS": "0",
        # After SIGTERM torchrun would kill the workers while they save: the Pod's grace period is what limits them.
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_SECONDS),
        # With the shared store a restarted group reads addresses of the dead one (torch 2.13, gloo).
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    return missing | given


def threads(layout: Layout, cores: float | None) -> dict[str, str]:
    """Return how many threads a worker computes with: its share of what the container may use.

    Libraries count the node's cores: with a thread for each, all of them wait most of the time for the quota's next period.
    """
    return {} if cores is None else {"OMP_NUM_THREADS": str(max(1, int(cores / layout.gpus_per_replica)))}


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def main() -> int:
    """Read the run configuration and see the run through."""
    try:
        run = told(RunConfig)
    except UserError as error:
        return refused(error)
    return Entry(run).main()
