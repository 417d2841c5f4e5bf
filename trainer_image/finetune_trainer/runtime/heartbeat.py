"""Signs of life of a worker, read by the watchdog in the entry process. One small file per rank, touched at each step.

Imports nothing heavy: the entry process reads what the workers write.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

BUSY_SECONDS = 20.0
"""While a transfer runs, a thread beats so often: the storage client has time-outs of its own, the step clock has not."""


class Heartbeat:
    """A file whose age is the time since the last progress, and whose content is the worker's process id."""

    def __init__(self, folder: Path, *, rank: int) -> None:
        self.path = folder / f"heartbeat-{rank}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(str(os.getpid()))
        self._silence = ExitStack()

    def beat(self) -> None:
        """Say that something moved."""
        os.utime(self.path)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep beating while something long without steps runs: a download, an upload, a save."""
        done = threading.Event()
        thread = threading.Thread(target=self._beat_until, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def keep_beating(self) -> None:
        """Be busy until `enough`: transformers loads or writes hundreds of GiB between two of our callbacks."""
        self._silence.enter_context(self.busy())

    def enough(self) -> None:
        """Steps are the signs of life again."""
        self._silence.close()

    def _beat_until(self, done: threading.Event) -> None:
        while not done.wait(BUSY_SECONDS):
            self.beat()


def processes(folder: Path) -> dict[int, int]:
    """Return the process id of each rank that ever beat here."""
    texts = {int(path.name.rpartition("-")[2]): path.read_text() for path in folder.glob("heartbeat-*")}
    return {rank: int(text) for rank, text in sorted(texts.items()) if text.isdigit()}


def newest_beat(folder: Path) -> float:
    """Return the time of the last sign of life of any worker, in seconds since the epoch; 0 before the first."""
    return max((path.stat().st_mtime for path in folder.glob("heartbeat-*")), default=0.0)
