"""SIGTERM in a worker: leave at once, or save first and leave. Installed by worker before anything heavy is imported.

Between two checkpoints there is something to lose, so the signal only sets a flag, which all ranks agree on at the end
of the step. Before training and after its last checkpoint there is nothing to lose: the worker leaves at once. A second
signal leaves at once in any case.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType

from finetune_contract import ExitCode

KILLED_BY_SIGTERM = 143
"""What a shell reports for a process that SIGTERM ended."""


class Interrupt:
    """Whether this process was asked to stop."""

    def __init__(self, leave: Callable[[], None]) -> None:
        """`leave` writes the verdict of a worker that stops with nothing to lose."""
        self.asked = False
        self.must_save = False
        self._leave = leave

    def install(self) -> None:
        """Take over SIGTERM. Only the main thread may call it."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            os._exit(KILLED_BY_SIGTERM)
        self.asked = True
        if not self.must_save:
            self._leave()
            os._exit(ExitCode.PREEMPTED)
