"""One training process: signals first, then the libraries, then train; its verdict last. Started by entry, perhaps by torchrun."""

import faulthandler
import logging
import os
import signal
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_contract import ENV_DEVICE, ENV_WORKSPACE, Outcome, Progress, RunConfig

from finetune_trainer.journal.parts import Parts
from finetune_trainer.process import verdict
from finetune_trainer.process.accelerator import refuse_without_accelerator
from finetune_trainer.process.standstill import stacks_file
from finetune_trainer.process.watched import watched
from finetune_trainer.runtime import ranks
from finetune_trainer.runtime.heartbeat import Heartbeat
from finetune_trainer.runtime.interrupt import Interrupt
from finetune_trainer.runtime.lifeline import die_with_parent
from finetune_trainer.storage.naming import counted
from finetune_trainer.storage.secrecy import redacted
from finetune_trainer.told import told

if TYPE_CHECKING:
    from finetune_trainer.runtime.progress import Reporter

ENV_STARTED = "FINETUNE_STARTED"
"""When the entry process started, by the monotonic clock. A worker that nobody started for a Pod counts from its own start."""


def run_folder() -> Path:
    """Return where workers and the entry process leave notes for each other."""
    return Path(os.environ[ENV_WORKSPACE]) / "run"


def journal_folder() -> Path:
    """Return where log and metrics grow until they are stored."""
    return run_folder() / "journal"


class Worker:
    """This process's place in the run: what it would say if it ended now."""

    def __init__(self) -> None:
        self.rank = ranks.rank()
        self.heartbeat = Heartbeat(run_folder(), rank=self.rank)
        self.interrupt = Interrupt(leave=self.leave)
        self.reporter: Reporter | None = None

    def run(self) -> Outcome:
        """Train as the run configuration says."""
        run = told(RunConfig)
        device = os.environ.get(ENV_DEVICE, "cuda")
        quiet(device)
        with self.heartbeat.busy():  # from a cold disk the imports take minutes, which is no stall
            from finetune_trainer.runtime.progress import Reporter  # noqa: PLC0415 - torch and friends: six seconds

            refuse_without_accelerator(device)
            history = Parts(journal_folder(), "metrics", ".jsonl") if self.rank == 0 else None
            self.reporter = Reporter(total_steps=run.training.max_steps, history=history)
            self.reporter.phase("loading")
            from finetune_trainer.training.bench import Bench  # noqa: PLC0415 - as above
            from finetune_trainer.training.train import train  # noqa: PLC0415 - as above

        workspace = Path(os.environ[ENV_WORKSPACE])
        bench = Bench(
            workspace=workspace,
            device=device,
            reporter=self.reporter,
            heartbeat=self.heartbeat,
            interrupt=self.interrupt,
            started=float(os.environ.get(ENV_STARTED, time.monotonic())),
        )
        return train(run, bench)

    def leave(self) -> None:
        """Leave the verdict of a worker that was asked to stop and has nothing to save."""
        now = self._now()
        lost = now.step - (now.checkpoint_step or 0)
        kept = f"the newest checkpoint is of step {now.checkpoint_step}" if now.checkpoint_step else "no checkpoint yet"
        message = f"asked to stop while {now.phase} at step {now.step}; {kept}, {counted(lost, 'step')} lost"
        outcome = Outcome(
            outcome="Preempted", reason="Preempted", message=message, step=now.step, checkpoint_step=now.checkpoint_step
        )
        verdict.write(outcome, run_folder(), rank=self.rank)

    def failed(self, error: Exception) -> Outcome:
        """Describe an end by an exception: its reason, and how far the run was."""
        now = self._now()
        return replace(
            verdict.failure(error, during=f" while {now.phase} at step {now.step}"),
            step=now.step,
            checkpoint_step=now.checkpoint_step,
            peak_memory_gib=now.peak_memory_gib,
            tokens_per_second=now.tokens_per_second,
            model_flop_utilisation=now.model_flop_utilisation,
            padding_share=now.padding_share,
        )

    def _now(self) -> Progress:
        return self.reporter.current if self.reporter is not None else Progress(phase="loading", step=0, total_steps=0)


def main() -> int:
    """Run the worker, below a parent that sees its end where there are several. Returns the exit code."""
    die_with_parent()
    if ranks.world_size() == 1:
        return work()
    where = f"rank {ranks.rank()} (replica {os.environ.get('GROUP_RANK', '0')}, GPU {ranks.local_rank()})"
    return watched(work, run_folder(), rank=ranks.rank(), where=where)


def work() -> int:
    """Train, and leave a verdict whatever happens. Returns the exit code."""
    die_with_parent()
    worker = Worker()
    stacks = stacks_file(run_folder(), worker.rank).open(
        "w"
    )  # open as long as the process: written in a signal handler
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    worker.interrupt.install()
    try:
        outcome = worker.run()
    except Exception as error:  # noqa: BLE001 - the boundary: every end becomes a verdict
        outcome = worker.failed(error)
        print(redacted(verdict.trace(error)), file=sys.stderr, flush=True)
    verdict.write(outcome, run_folder(), rank=worker.rank)
    return verdict.exit_code(outcome)


def quiet(device: str) -> None:
    """Keep libraries from calling home and from filling the log."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "warning")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if device == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed need not look for a GPU and warn that there is none
    # It misses a package with kernels for inference on the CPU.
    logging.getLogger("bitsandbytes.backends.cpu").setLevel(logging.ERROR)
    # TRL would have more rows in a micro batch, for speed; the planner has compared.
    logging.getLogger("trl.trainer.sft_trainer").addFilter(lambda record: "annihilate the benefits" not in record.msg)
    warnings.simplefilter("ignore", FutureWarning)
