"""The checkpoints on their way to the destination, one after the other. Called by Saver and HeldOut at the ends of steps.

Each replica's first process has an uploader of its own (uploader.py). All processes agree at the ends of steps how far it is:
rank 0 clears the place, every replica uploads its files, rank 0 marks the checkpoint complete.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from finetune_contract.wire import dumps, loads

from finetune_trainer.checkpoints.checkpoints import Checkpoints
from finetune_trainer.checkpoints.uploader import Answer, Request, Start
from finetune_trainer.errors import ReportedError, StorageUnavailable
from finetune_trainer.runtime import ranks

IDLE, WORKING, RETRYING, FAILED = 0.0, 1.0, 2.0, 3.0
"""How far a process's uploader is with the present stage. All processes go by the largest."""

POLL_SECONDS = 0.05
AT_RISK_INTERVALS = 2
"""A run whose checkpoints cannot be stored stops before more than so many intervals of work are at risk."""

PATIENCE_SECONDS = 600.0
"""Where no checkpoint follows by the clock: the same, from the first failure on."""


class Uploader:
    """The process, seen from the trainer."""

    def __init__(self, start: Start) -> None:
        command = [sys.executable, "-m", "finetune_trainer", "upload"]
        # A session of its own: torchrun signals whole groups.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        os.set_blocking(self._answers.fileno(), False)
        self._read = b""
        self._write(dumps(start))

    def ask(self, request: Request) -> None:
        """Hand over a request."""
        self._write(dumps(request))

    def answers(self) -> list[Answer]:
        """Return what it has said since the last call, without waiting."""
        while part := self._answers.read():
            self._read += part
        *lines, self._read = self._read.split(b"\n")
        said = [loads(Answer, line.decode()) for line in lines]
        return said if said or self._process.poll() is None else [self._death()]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self._answers.close()

    def _write(self, line: str) -> None:
        try:
            self._requests.write(line.encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            return  # answers() tells

    def _death(self) -> Answer:
        code = self._process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        message = f"the process that uploads checkpoints {how}: its last lines are in the log"
        return Answer(kind="failed", reason="TrainerError", message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What is on its way."""

    name: str
    step: int
    staged: Path
    best: str
    prune: bool
    alone: bool
    """Weights, which only rank 0's replica has."""
    stages: tuple[str, ...]
    """Those that are left, the present one first."""
    began: float


class Uploads:
    """The way of this run's checkpoints. Every process calls `begin`, `advance` and `finish` at the same places."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.current: Upload | None = None
        self._waiting: list[Upload] = []
        """Staged, and sent on their way when those before them are complete: none overtakes another."""
        self.safe_at = time.monotonic()
        """When the state was saved that the newest complete checkpoint holds."""
        self.ended = False
        """No more work is done: what was staged is all that is at risk, however long it takes."""
        self._uploader: Uploader | None = None
        self._delivered = Answer(kind="done")
        self._working = False
        self._failing: Answer | None = None
        self._failing_since = 0.0
        self._told: tuple[str, str, int, int] | None = None

    def begin_best(self, staged: Path, step: int) -> str:
        """Send the best weights so far to a slot of their own, outside `keep`; returns its name."""
        self._drop_overtaken()
        name = f"best-attempt-{self.checkpoints.run.attempt}-step-{step}"
        self._begin(name, staged, step, best="", prune=False, alone=True)
        return name

    def begin(self, staged: Path, step: int, *, best: str, alone: bool = False) -> None:
        """Send a staged checkpoint, which names this best slot, on its way; older ones are removed once it is complete."""
        self._begin(self.checkpoints.named(step).name, staged, step, best=best, prune=True, alone=alone)

    def _begin(self, name: str, staged: Path, step: int, *, best: str, prune: bool, alone: bool) -> None:
        stages = (*(["clear"] if name in self.checkpoints.present else []), "upload", "mark")
        self._waiting.append(
            Upload(
                name=name, step=step, staged=staged, best=best, prune=prune, alone=alone, stages=stages,
                began=time.monotonic(),
            )
        )  # fmt: skip
        ranks.wait_for_all()  # the staged folder is whole when all have written
        if self.current is None:
            self._next()

    def _drop_overtaken(self) -> None:
        """Give up best weights that still wait while better ones are here, or a slow destination would fill the disk with them."""
        named = {upload.best for upload in self._waiting}
        for upload in [upload for upload in self._waiting if not upload.prune and upload.name not in named]:
            self._waiting.remove(upload)
            shutil.rmtree(upload.staged, ignore_errors=True)

    def _next(self) -> None:
        if self._waiting:
            self.current = self._waiting.pop(0)
            self._ask()

    def look(self) -> float:
        """Return how far this process's uploader is: one of the constants above, for all to take the largest."""
        if self._uploader is not None and self._working:
            for answer in self._uploader.answers():
                self._take(answer)
        if self._failing is not None and self._failing.kind == "failed":
            return FAILED
        if self._failing is not None:
            seconds, limit = self._at_risk()
            return FAILED if seconds > limit else RETRYING
        return WORKING if self._working else IDLE

    def _take(self, answer: Answer) -> None:
        if answer.kind == "done":
            self._working, self._failing, self._delivered = False, None, answer
            return
        if self._failing is None:
            self._failing_since = time.monotonic()
        self._failing = answer

    @property
    def _interval(self) -> int:
        """Seconds between two checkpoints; 0 where none follows in time."""
        return 0 if self.ended else self.checkpoints.run.checkpoint.interval_seconds

    def _at_risk(self) -> tuple[float, float]:
        """Return for how many seconds work is at risk, and the limit."""
        interval = self._interval
        since = self.safe_at if interval else self._failing_since
        return time.monotonic() - since, AT_RISK_INTERVALS * interval or PATIENCE_SECONDS

    def advance(self, furthest: float) -> str | None:
        """Go on by what all processes agreed on; returns the name of a checkpoint that is complete by now.

        Raises ReportedError in every process where one of them failed.
        """
        if self.current is None or furthest == WORKING:
            return None
        if furthest in (RETRYING, FAILED):
            self._tell(failed=furthest == FAILED)
            return None
        stage, *left = self.current.stages
        if stage == "upload":
            parts = ranks.gathered(self._delivered)
            files = {path: digest for part in parts for path, digest in part.files.items()}
            self._delivered = Answer(kind="done", files=files, size_bytes=sum(part.size_bytes for part in parts))
        self.current = replace(self.current, stages=tuple(left))
        if left:
            self._ask()
            return None
        return self._completed()

    def finish(self, name: str = "") -> list[str]:
        """Wait until nothing is on its way, or until this one is complete; returns the names of what became complete."""
        done: list[str] = []
        while self.current is not None and (not name or self._is_on_its_way(name)):
            if completed := self.advance(ranks.largest([self.look()])[0]):
                done.append(completed)
            else:
                time.sleep(POLL_SECONDS)
        return done

    def _is_on_its_way(self, name: str) -> bool:
        return any(upload is not None and upload.name == name for upload in (self.current, *self._waiting))

    def close(self) -> None:
        """End the uploader. What is on its way stays incomplete."""
        if self._uploader is not None:
            self._uploader.close()
            self._uploader = None

    def _completed(self) -> str:
        assert self.current is not None
        name, step, began, whole = self.current.name, self.current.step, self.current.began, self.current.prune
        self.current, self._delivered = None, Answer(kind="done")
        if whole:
            self.checkpoints.newest_step, self.safe_at = step, began
        self._next()
        return name

    def _tell(self, *, failed: bool) -> None:
        """Let every process know whose upload fails and why; rank 0 says so, the last failure ends the run."""
        assert self.current is not None
        told = [(rank, answer) for rank, answer in enumerate(ranks.gathered(self._failing)) if answer is not None]
        final = [answer for _, answer in told if answer.kind == "failed"]
        if final:
            raise ReportedError(final[0].reason, final[0].message)
        rank, answer = max(told, key=lambda pair: pair[1].tries)
        if failed:
            seconds, limit = self._at_risk()
            since = "since the last complete checkpoint" if self._interval else "so far"
            raise StorageUnavailable(
                f"checkpoint {self.current.name} could not be stored (attempt {answer.tries}): {answer.message}. The run "
                f"stops because {seconds:,.0f} s of work {since} are at risk; the limit is {limit:,.0f} s"
            )
        failure = (self.current.name, self.current.stages[0], rank, answer.tries)
        if failure != self._told and ranks.rank() == 0:
            print(
                f"checkpoint {self.current.name} could not be stored (attempt {answer.tries} of rank {rank}), retrying: "
                f"{answer.message}",
                flush=True,
            )
        self._told = failure

    def _ask(self) -> None:
        """Give the present stage to those who have to do it."""
        current, checkpoints = self.current, self.checkpoints
        assert current is not None
        stage = current.stages[0]
        every_replica = stage == "upload" and not current.alone
        mine = ranks.local_rank() == 0 if every_replica else ranks.rank() == 0
        if not mine:
            self._delivered = Answer(kind="done") if stage == "upload" else self._delivered
            return
        if self._uploader is None:
            self._uploader = Uploader(
                Start(run=checkpoints.run, scratch=str(checkpoints.scratch), holder=checkpoints.holder)
            )
        self._working = True
        self._uploader.ask(
            Request(
                stage=stage, name=current.name, step=current.step, folder=str(current.staged), best=current.best,
                prune=current.prune, files=self._delivered.files if stage == "mark" else {},
                size_bytes=self._delivered.size_bytes if stage == "mark" else 0,
            )
        )  # fmt: skip
