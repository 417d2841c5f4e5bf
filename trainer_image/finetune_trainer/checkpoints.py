"""Resumable state at the checkpoint destination. Called by callbacks (save) and train (resume).

A checkpoint is a folder `attempt-<n>-step-<s>` that holds a file COMPLETE, written last. Folders without it do not count
and are removed. The attempt number is a fencing token: a process that was cut off and still trains never takes the place
of a later attempt's checkpoint.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from finetune_trainer import ranks
from finetune_trainer.contract import COMPLETE_MARKER, RunConfig
from finetune_trainer.errors import ReportedError
from finetune_trainer.storage import Store
from finetune_trainer.wire import dumps, loads

CHECKPOINT_NAME = re.compile(r"^attempt-(\d+)-step-(\d+)$")
BEST_NAME = re.compile(r"^best-attempt-(\d+)-step-(\d+)$")
BASELINE_FILE = "baseline.json"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Checkpoint:
    """One complete checkpoint; later attempts count as newer, whatever their step."""

    attempt: int
    step: int

    @property
    def name(self) -> str:
        """The folder at the destination."""
        return f"attempt-{self.attempt}-step-{self.step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """The content of COMPLETE."""

    run_digest: str
    attempt: int
    step: int
    size_bytes: int
    world_size: int
    zero_stage: int


class Checkpoints:
    """The checkpoints of one run at one destination."""

    def __init__(self, store: Store, run: RunConfig, *, scratch: Path) -> None:
        self.store = store
        self.run = run
        self.scratch = scratch
        self.newest_step: int | None = None
        """Step of the newest complete checkpoint known to this process."""

    def complete(self) -> list[Checkpoint]:
        """Return the complete checkpoints of this run, oldest first; those of another run digest do not count."""
        found = []
        for name in self._folders(CHECKPOINT_NAME, complete=True):
            marker = self._marker(name)
            if marker is not None and marker.run_digest == self.run.run_digest:
                found.append(Checkpoint(attempt=marker.attempt, step=marker.step))
        return sorted(found)

    def resume(self) -> tuple[Checkpoint, Path] | None:
        """Return the newest complete checkpoint and the local folder that holds it; None to start from the base model.

        Raises ReportedError where its optimizer state belongs to another sharding.
        """
        checkpoints = self.complete()
        if not checkpoints:
            return None
        newest = checkpoints[-1]
        self._refuse_other_sharding(newest)
        self.newest_step = newest.step
        return newest, self._local(newest.name)

    def _refuse_other_sharding(self, checkpoint: Checkpoint) -> None:
        marker, layout = self._marker(checkpoint.name), self.run.layout
        if marker is None or marker.zero_stage == layout.zero_stage == 0:
            return
        if (marker.zero_stage, marker.world_size) != (layout.zero_stage, layout.world_size):
            raise ReportedError(
                "TrainerError",
                f"checkpoint {checkpoint.name} was written by {marker.world_size} processes at ZeRO stage "
                f"{marker.zero_stage} and cannot be loaded by {layout.world_size} at stage {layout.zero_stage}; "
                "the plan of a run must not change after its first checkpoint",
            )

    def clean(self) -> None:
        """Remove what earlier attempts left unfinished. Only rank 0 calls it, before the first step."""
        unfinished = set(self._folders(CHECKPOINT_NAME)) - set(self._folders(CHECKPOINT_NAME, complete=True))
        unfinished |= set(self._folders(BEST_NAME)) - set(self._folders(BEST_NAME, complete=True))
        for name in sorted(unfinished):
            if _attempt(name) < self.run.attempt:
                self.store.delete(name)
        self.clear_staging()

    def clear_staging(self) -> None:
        """Remove the folder that the trainer writes into. Harmless where it is gone."""
        if ranks.rank() == 0:
            shutil.rmtree(self.staging(), ignore_errors=True)

    def staging(self) -> Path:
        """Return the local folder that the trainer writes into; beside the checkpoints where that saves a copy."""
        local = self.store.local_folder()
        return local / f".staging-{self.run.attempt}" if local is not None else self.scratch / "staging"

    def publish(self, staged: Path, step: int) -> Checkpoint:
        """Turn a staged folder into a complete checkpoint. Every process calls it; returns when all have written.

        Raises ReportedError where a later attempt has taken over.
        """
        checkpoint = Checkpoint(attempt=self.run.attempt, step=step)
        self._refuse_if_superseded()
        self._deliver(staged, checkpoint.name)
        if ranks.rank() == 0:
            self._mark(checkpoint.name, step)
        ranks.wait_for_all()
        self.newest_step = step
        return checkpoint

    def prune(self, *, best: str) -> None:
        """Keep the newest `keep` checkpoints and the best slot in use; rank 0 removes what is older."""
        if ranks.rank() != 0:
            return
        for checkpoint in self.complete()[: -self.run.checkpoint.keep]:
            # The marker goes first: a half-removed checkpoint must not look whole.
            self.store.delete(f"{checkpoint.name}/{COMPLETE_MARKER}")
            self.store.delete(checkpoint.name)
        for name in self._folders(BEST_NAME):
            if name != best and _attempt(name) <= self.run.attempt:
                self.store.delete(name)

    def publish_best(self, staged: Path, step: int) -> str:
        """Put the best weights so far into a slot of their own, outside `keep`; return its name. Every process calls it."""
        name = f"best-attempt-{self.run.attempt}-step-{step}"
        self._deliver(staged, name)
        if ranks.rank() == 0:
            self._mark(name, step)
        ranks.wait_for_all()
        return name

    def best(self, name: str) -> Path | None:
        """Return the local folder of a best slot; None where it is gone."""
        return self._local(name) if self._marker(name) is not None else None

    def read_baseline(self) -> str | None:
        """Return what an earlier attempt measured of the base model."""
        return self.store.read_text(BASELINE_FILE)

    def write_baseline(self, text: str) -> None:
        """Keep what was measured of the base model: a resumed run holds other weights."""
        if ranks.rank() == 0:
            self.store.write_text(BASELINE_FILE, text)

    def _deliver(self, staged: Path, name: str) -> None:
        """Bring the files of every replica together under one name; returns when all are there."""
        ranks.wait_for_all()
        local = self.store.local_folder()
        if local is not None:
            if ranks.rank() == 0:
                shutil.rmtree(local / name, ignore_errors=True)
                staged.rename(local / name)
        elif ranks.local_rank() == 0:
            self.store.upload(staged, name)
            shutil.rmtree(staged)
        ranks.wait_for_all()

    def _mark(self, name: str, step: int) -> None:
        size = sum(file.size_bytes for file in self.store.files(name))
        layout = self.run.layout
        marker = Marker(
            run_digest=self.run.run_digest, attempt=self.run.attempt, step=step, size_bytes=size,
            world_size=layout.world_size, zero_stage=layout.zero_stage,
        )  # fmt: skip
        self.store.write_text(f"{name}/{COMPLETE_MARKER}", dumps(marker))

    def _marker(self, name: str) -> Marker | None:
        text = self.store.read_text(f"{name}/{COMPLETE_MARKER}")
        try:
            return loads(Marker, text) if text is not None else None
        except (ValueError, json.JSONDecodeError):
            return None

    def _folders(self, pattern: re.Pattern[str], *, complete: bool = False) -> list[str]:
        paths = [file.path.split("/") for file in self.store.files()]
        chosen = [parts for parts in paths if len(parts) > 1 and pattern.match(parts[0])]
        return sorted({parts[0] for parts in chosen if not complete or parts[1] == COMPLETE_MARKER})

    def _local(self, name: str) -> Path:
        local = self.store.local_folder()
        if local is not None:
            return local / name
        wanted = [file.path for file in self.store.files(name)]
        return self.store.fetch(self.scratch / "fetched", wanted) / name

    def _refuse_if_superseded(self) -> None:
        newest = max((_attempt(name) for name in self._folders(CHECKPOINT_NAME)), default=-1)
        if newest > self.run.attempt:
            raise ReportedError("TrainerError", f"attempt {newest} has taken over from attempt {self.run.attempt}")


def _attempt(name: str) -> int:
    match = CHECKPOINT_NAME.match(name) or BEST_NAME.match(name)
    return int(match[1]) if match else -1
