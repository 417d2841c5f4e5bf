"""Resumable state at the checkpoint destination. Called by train (resume), uploads and delivery (save).

A checkpoint is a folder `attempt-<n>-step-<s>` that holds a file COMPLETE, written last, and all that this file says was there.
Other folders do not count and are removed. Only the attempt that holds the destination (holder.py) may write one.

A folder `result-attempt-<n>` is marked in the same way. It holds what an attempt left of a model that it did not publish itself
(training.handed_over), and is removed when the model is published, or when another attempt of the run takes over.
"""

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_contract import COMPLETE_MARKER, RunConfig
from finetune_contract.wire import loads

from finetune_trainer.checkpoints.digests import damaged
from finetune_trainer.checkpoints.holder import Holder, refuse_if_overtaken, take_over
from finetune_trainer.runtime import ranks
from finetune_trainer.storage import Store

CHECKPOINT_NAME = re.compile(r"^attempt-(\d+)-step-(\d+)$")
BEST_NAME = re.compile(r"^best-attempt-(\d+)-step-(\d+)$")
EITHER_NAME = re.compile(f"{CHECKPOINT_NAME.pattern}|{BEST_NAME.pattern}")
RESULT_NAME = re.compile(r"^result-attempt-(\d+)$")
ANY_NAME = re.compile(f"{EITHER_NAME.pattern}|{RESULT_NAME.pattern}")
BASELINE_FILE = "baseline.json"
STATE_NAMES = ("optimizer", "global_step")
"""How the names of optimizer states begin: transformers' file, DeepSpeed's folder."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Checkpoint:
    """One complete checkpoint; those of later turns count as newer, whatever their step."""

    turn: int
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
    """0 where nothing is sharded: of plain data parallelism, and of weights alone."""
    turn: int = 0
    """Of the attempt that wrote it, as holder.json had it; 0 before there was such a file."""
    files: dict[str, str] = field(default_factory=dict)
    """The sha256 of each file, by its path in the folder."""


def holds_weights_alone(names: Iterable[str]) -> bool:
    """Tell whether a checkpoint, by the names of what is in it, has whole weights and no state of an optimizer.

    Such a one is written after the last step (training.last_weights). It fits any layout.
    """
    listed = tuple(names)
    return any(name.endswith(".safetensors") for name in listed) and not any(
        name.startswith(STATE_NAMES) for name in listed
    )


def parsed_marker(text: str | None) -> Marker | None:
    """Return the marker that a COMPLETE holds; None for none, or for one that cannot be read."""
    try:
        return loads(Marker, text) if text is not None else None
    except (ValueError, json.JSONDecodeError):
        return None


class Checkpoints:
    """The checkpoints of one run at one destination."""

    def __init__(self, store: Store, run: RunConfig, *, scratch: Path) -> None:
        self.store = store
        self.run = run
        self.scratch = scratch
        self.holder: Holder | None = None
        """As this attempt took the destination over; the other processes know its turn from rank 0."""
        self.present: frozenset[str] = frozenset()
        """Folders that earlier attempts left here, whosever they are: their names must be cleared before they are used."""
        self.newest_step: int | None = None
        """Step of the newest complete checkpoint known to this process."""

    def complete(self) -> list[Checkpoint]:
        """Return the complete checkpoints of this run, oldest first; those of another run digest do not count."""
        return self._of_this_run(self.markers(CHECKPOINT_NAME))

    def _of_this_run(self, markers: dict[str, Marker | None]) -> list[Checkpoint]:
        mine = (marker for marker in markers.values() if marker and self._is_ours(marker))
        return sorted(Checkpoint(turn=marker.turn, attempt=marker.attempt, step=marker.step) for marker in mine)

    def _is_ours(self, marker: Marker | None) -> bool:
        return marker is not None and marker.run_digest == self.run.run_digest

    def resume(self) -> tuple[Checkpoint, Path] | None:
        """Take the destination over and return the newest complete checkpoint and the local folder that holds it.

        None to start from the base model. Every process calls it, when they know each other; all get what rank 0 sees.
        Checkpoints whose optimizer state is sharded in another way are passed over, and the log says so.
        Raises ReportedError where a later attempt was here.
        """
        found = self._taken_over() if ranks.rank() == 0 else []
        # Two looks may differ while an attempt that was cut off still saves.
        self.holder, self.present, found = ranks.from_first((self.holder, self.present, found))
        passed_over: list[tuple[Checkpoint, Marker]] = []
        for checkpoint in found:
            marker = self.marker(checkpoint.name)
            if marker is not None and self._is_of_another_layout(marker):
                passed_over.append((checkpoint, marker))
                continue
            folder = self._local(checkpoint.name)
            if self._is_as_written(checkpoint.name, folder, marker):
                self._tell_passed_over(passed_over, f"resuming from checkpoint {checkpoint.name}")
                self.newest_step = checkpoint.step
                return checkpoint, folder
            if ranks.rank() == 0:  # it must not be counted among those that are kept
                self.store.delete(f"{checkpoint.name}/{COMPLETE_MARKER}")
        self._tell_passed_over(passed_over, "starting again at step 0")
        return None

    def _is_as_written(self, name: str, folder: Path, marker: Marker | None) -> bool:
        """Compare the files with their digests, each machine its own copy; all processes get the same answer."""
        looks = ranks.rank() == 0 if self.store.local_folder() is not None else ranks.local_rank() == 0
        wrong = damaged(folder, marker.files) if looks and marker is not None else []
        if wrong:
            print(
                f"checkpoint {name} is damaged: {len(wrong)} of {len(marker.files if marker else ())} files differ from "
                f"what was written (first {wrong[0]}); looking for an older checkpoint",
                flush=True,
            )
        return not ranks.largest([float(len(wrong))])[0]

    def _taken_over(self) -> list[Checkpoint]:
        """Become the holder, clear away what is unfinished, and return the complete checkpoints, newest first.

        In this order: nothing that an earlier attempt does from then on counts.
        """
        self.holder = take_over(self.store, self.run, turns=self._turns)
        found = self.markers(ANY_NAME)
        left = {name for name, marker in found.items() if RESULT_NAME.match(name) and self._is_ours(marker)}
        self._clean([name for name, marker in found.items() if marker is None or name in left])
        markers = {name: marker for name, marker in found.items() if not RESULT_NAME.match(name)}
        self.present = frozenset(name for name, marker in markers.items() if marker is not None)
        whole = {name: marker for name, marker in markers.items() if CHECKPOINT_NAME.match(name)}
        return list(reversed(self._of_this_run(whole)))

    def _turns(self) -> int:
        """Return the last turn that a checkpoint here knows of, whichever run's it is."""
        return max((marker.turn for marker in self.markers(CHECKPOINT_NAME).values() if marker), default=0)

    def _is_of_another_layout(self, marker: Marker) -> bool:
        """DeepSpeed's optimizer files belong to one stage and world size; plain ones fit any number of processes."""
        layout = self.run.layout
        if marker.zero_stage == layout.zero_stage == 0 or holds_weights_alone(marker.files):
            return False
        return (marker.zero_stage, marker.world_size) != (layout.zero_stage, layout.world_size)

    def _tell_passed_over(self, checkpoints: list[tuple[Checkpoint, Marker]], instead: str) -> None:
        if not checkpoints or ranks.rank() != 0:
            return
        (newest, marker), layout = checkpoints[0], self.run.layout
        print(
            f"checkpoint {newest.name} was written at world size {marker.world_size} and ZeRO stage {marker.zero_stage} and cannot be "
            f"loaded at world size {layout.world_size} and stage {layout.zero_stage}: {instead}",
            flush=True,
        )

    def _clean(self, unfinished: list[str]) -> None:
        """Remove what earlier attempts left unfinished, here and at the destination."""
        for name in unfinished:
            self.store.delete(name)
        shutil.rmtree(self.staging(), ignore_errors=True)

    def name_of(self, step: int | None) -> str:
        """Return the name of the newest complete checkpoint of a step; empty where there is none."""
        return next((found.name for found in reversed(self.complete()) if found.step == step), "")

    def clear_staging(self) -> None:
        """Remove the folder that the trainer writes into. Harmless where it is gone."""
        if ranks.rank() == 0:
            shutil.rmtree(self.staging(), ignore_errors=True)

    def staging(self) -> Path:
        """Return the folder on the Pod's own disk that the trainer writes into: a volume may be as slow as a bucket."""
        return self.scratch / "staging"

    def named(self, step: int) -> Checkpoint:
        """Return the checkpoint that this attempt makes of a step."""
        turn = self.holder.turn if self.holder is not None else 0
        return Checkpoint(turn=turn, attempt=self.run.attempt, step=step)

    def best(self, name: str) -> Path | None:
        """Return the local folder of a best slot; None where it is gone or damaged. Every process calls it."""
        marker = self.marker(name)
        if marker is None:
            return None
        folder = self._local(name)
        return folder if self._is_as_written(name, folder, marker) else None

    def read_baseline(self) -> Any:
        """Return what an earlier attempt of this run measured of the base model. Every process calls it, all get the same."""
        text = self.store.read_text(BASELINE_FILE) if ranks.rank() == 0 else None
        found = json.loads(text) if text is not None else {}
        return ranks.from_first(found["measured"] if found.get("runDigest") == self.run.run_digest else None)

    def write_baseline(self, measured: Any) -> None:
        """Keep what was measured of the base model: a resumed run holds other weights."""
        if ranks.rank() == 0:
            self.store.write_text(BASELINE_FILE, json.dumps({"runDigest": self.run.run_digest, "measured": measured}))

    def refuse_if_overtaken(self) -> None:
        """Raise where another attempt, or another run, holds the destination by now."""
        refuse_if_overtaken(self.store, self.run, self.holder)

    def markers(self, pattern: re.Pattern[str]) -> dict[str, Marker | None]:
        """Return the folders with such names and their markers; None where files are missing, too.

        A successor may have cleared some away before the marker was written.
        """
        found = {}
        for name, size in self._folders(pattern).items():
            marker = self.marker(name)
            found[name] = marker if marker is not None and size >= marker.size_bytes else None
        return found

    def marker(self, name: str) -> Marker | None:
        """Return what the marker of a folder says; None where it has none."""
        return parsed_marker(self.store.read_text(f"{name}/{COMPLETE_MARKER}"))

    def _folders(self, pattern: re.Pattern[str]) -> dict[str, int]:
        """Return the folders with such names and how many bytes they hold beside the marker."""
        sizes: dict[str, int] = defaultdict(int)
        for file in self.store.files():
            name, _, inner = file.path.partition("/")
            if inner and pattern.match(name):
                sizes[name] += 0 if inner == COMPLETE_MARKER else file.size_bytes
        return dict(sorted(sizes.items()))

    def _local(self, name: str) -> Path:
        local = self.store.local_folder()
        if local is not None:
            return local / name
        wanted = [file.path for file in self.store.files(name)]
        return self.store.fetch(self.scratch / "fetched", wanted) / name
