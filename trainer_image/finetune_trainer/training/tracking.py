"""The run in TensorBoard's files and on servers, through transformers' own callbacks. Given to the trainer by train.

Each tracker has a thread of its own: a server that hangs holds up nothing, and runs belong to the thread that starts them.
A tracker that fails is told nothing more, and training goes on: what it shows is also in the history beside the result.
"""

import copy
import os
import queue
import shutil
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from finetune_contract import RunConfig, Tracker
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune_trainer.errors import ReportedError
from finetune_trainer.runtime import ranks
from finetune_trainer.runtime.progress import say
from finetune_trainer.storage.secrecy import redacted
from finetune_trainer.training.bench import Bench
from finetune_trainer.training.trackers import begun, end, environment

FOLDER = "tensorboard"
FAREWELL_SECONDS = 60.0
"""So long the end of a run waits for a tracker that has not written everything yet."""


class Line:
    """One tracker, its thread, and what it still has to do."""

    def __init__(self, kind: str, started: Callable[[], TrainerCallback]) -> None:
        self.kind = kind
        self._work: queue.SimpleQueue[Callable[[TrainerCallback], Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()

    def put(self, work: Callable[[TrainerCallback], Any]) -> None:
        """Have something done after what was put before."""
        self._work.put(work)

    def end(self, seconds: float) -> None:
        """Wait for what is left, for a while."""
        self._work.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._say(f"did not finish writing within {seconds:.0f} s; the last figures may be missing there")

    def _run(self, started: Callable[[], TrainerCallback]) -> None:
        try:
            tracker = started()
            while (work := self._work.get()) is not None:
                work(tracker)
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the run goes on
            message = error.message if isinstance(error, ReportedError) else f"{type(error).__name__}: {error}"
            self._say(
                f"failed; nothing more is sent to it, and training continues: {' '.join(redacted(message).split())[:500]}"
            )

    def _say(self, text: str) -> None:
        say(f"tracker {self.kind} {text}")


class Tracking(TrainerCallback):
    """Passes on what is logged, on rank 0."""

    def __init__(self, run: RunConfig, bench: Bench) -> None:
        self._run, self._bench = run, bench
        self._lines: list[Line] = []
        self._moment: tuple[TrainingArguments, TrainerState, TrainerControl] | None = None

    @property
    def folder(self) -> Path:
        """Where TensorBoard's files grow; what stores the log stores them."""
        return self._bench.workspace / "run" / "journal" / FOLDER

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, model: Any = None, **_: Any
    ) -> None:
        """Start every tracker."""
        self._moment = args, state, control
        trackers = self._run.trackers if ranks.rank() == 0 else ()
        begun = copy.copy(state)
        self._lines = [
            Line(tracker.type, partial(self._started, tracker, args, begun, control, model)) for tracker in trackers
        ]

    def _started(
        self, tracker: Tracker, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any
    ) -> TrainerCallback:
        os.environ |= environment(tracker, self._run, files=self.folder, scratch=self._bench.workspace / "trackers")
        own = copy.copy(args)
        own.project = tracker.project  # Trackio's callback looks there
        return begun(tracker, own, state, control, model=model)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        """Pass on the figures of a step or an evaluation, as they are now."""
        now, figures = copy.copy(state), dict(logs)
        for line in self._lines:
            line.put(lambda tracker: tracker.on_log(args, now, control, logs=figures))

    def finish(self, figures: Mapping[str, float], record: Path | None = None) -> None:
        """Pass on the final figures, let every tracker come to its end, and put TensorBoard's files into the record."""
        if self._moment is None:
            return
        args, state, control = self._moment
        if figures:
            self.on_log(args, state, control, dict(figures))
        with self._bench.heartbeat.busy():
            for line in self._lines:
                line.put(partial(end, line.kind, args=args, state=state, control=control))
                line.end(FAREWELL_SECONDS)
        if record is not None and self.folder.is_dir():
            shutil.copytree(self.folder, record / FOLDER, dirs_exist_ok=True)
