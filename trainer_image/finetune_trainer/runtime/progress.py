"""Progress lines on the stdout of replica 0's rank 0, and peaks of memory. Called by train and callbacks."""

import contextlib
import json
import math
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from finetune_contract import Progress, progress_line

from finetune_trainer.journal.parts import Parts
from finetune_trainer.runtime import ranks

GIB = 2**30
LINE_SECONDS = 1.0
"""At most one line in so many seconds within a phase: the operator reads the log every ten seconds or less often."""


class Reporter:
    """The newest progress report, printed when something a reader would notice has changed."""

    def __init__(self, *, total_steps: int, history: Parts | None = None) -> None:
        self.current = Progress(phase="loading", step=0, total_steps=total_steps)
        self.peak_gib = 0.0
        self.peak_reserved_gib: float | None = None
        self._printed_at = float("-inf")
        self._history = history

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Keep what was measured at a step: every one, where progress lines are at most one a second."""
        if self._history is not None:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            finite = {
                name: value for name, value in values.items() if isinstance(value, int | float) and math.isfinite(value)
            }
            self._history.append(json.dumps({"time": now, "step": step} | finite).encode() + b"\n")

    def phase(self, name: str) -> None:
        """Enter a phase; always printed."""
        self.current = replace(self.current, phase=name)
        self._print()

    def update(self, *, now: bool = False, **fields: object) -> None:
        """Take over new values; printed unless a line was printed less than LINE_SECONDS ago."""
        self.current = replace(self.current, **fields)  # type: ignore[arg-type]  # the callers' keywords are its fields
        if now or time.monotonic() - self._printed_at >= LINE_SECONDS:
            self._print()

    def saw_peak(self, allocated_gib: float, reserved_gib: float | None) -> None:
        """Take over the largest memory of any one process."""
        self.peak_gib = max(self.peak_gib, allocated_gib)
        if reserved_gib is not None:
            self.peak_reserved_gib = max(self.peak_reserved_gib or 0.0, reserved_gib)
        self.current = replace(self.current, peak_memory_gib=round(self.peak_gib, 3))

    def _print(self) -> None:
        if ranks.rank() == 0:
            print(progress_line(self.current), flush=True)
        self._printed_at = time.monotonic()


def peak_memory_gib() -> tuple[float, float | None]:
    """Return the largest allocated and reserved GPU memory of this process; on the CPU its largest resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / GIB, torch.cuda.max_memory_reserved() / GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB, None


def reset_peak_memory() -> None:
    """Count the peak anew from what is held now."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):  # Linux only; elsewhere the peak goes on from the start of the process
        Path("/proc/self/clear_refs").write_text("5")


def say(text: str) -> None:
    """Print an ordinary log line, from rank 0 only."""
    if ranks.rank() == 0:
        print(text, flush=True)
