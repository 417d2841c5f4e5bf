"""Stores what a Pod keeps of itself, again and again while it grows: `python -m finetune_trainer keep`, a process of its own.

Nothing waits for it but the end of the Pod, and a store that fails costs a line in the log. The entry process closes its stdin
when there is nothing more to come.
"""

import select
import subprocess
import sys
from pathlib import Path

from finetune_contract import Location, RunConfig, log_folder

from finetune_trainer.errors import ReportedError
from finetune_trainer.storage import Role, Store, open_location
from finetune_trainer.storage.secrecy import redacted
from finetune_trainer.told import told

INTERVAL_SECONDS = 30.0
FAREWELL_SECONDS = 15.0
"""So long the end of a Pod waits for the last part. What ends it has been said by then."""


class Keeper:
    """The process, seen from the entry process."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "finetune_trainer", "keep", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def end(self) -> None:
        """Let it store what is left, for a while."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(FAREWELL_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"the last lines of this log could not be stored within {FAREWELL_SECONDS:.0f} s", flush=True)
            self._process.kill()
            self._process.wait()


class Keeping:
    """What of a folder is stored."""

    def __init__(self, folder: Path, location: Location, under: str) -> None:
        self.folder, self.location, self.under = folder, location, under
        self._stored: dict[str, int] = {}
        self._store: Store | None = None

    def store(self) -> str:
        """Store what has grown; returns why that failed, empty where it did not."""
        try:
            self._store = self._store or open_location(self.location, Role.CHECKPOINT)
            for path in sorted(self.folder.glob("*")):
                if path.is_dir():
                    self._store_folder(path)
                    continue
                data = path.read_bytes()
                if self._stored.get(path.name) != len(data):
                    self._store.write_text(f"{self.under}/{path.name}", redacted(data.decode(errors="replace")))
                    self._stored[path.name] = len(data)
        except ReportedError as error:
            return f"the log could not be stored at {self.location.uri}: {error.message}"
        return ""

    def _store_folder(self, folder: Path) -> None:
        """Store files that are no text, such as TensorBoard's."""
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if self._store is not None and self._stored.get(folder.name) != size:
            self._store.upload(folder, f"{self.under}/{folder.name}")
            self._stored[folder.name] = size


def main(folder: str) -> int:
    """Store until stdin ends, then once more."""
    run = told(RunConfig)
    keeping = Keeping(Path(folder), run.checkpoint.location, log_folder(run.uid, run.attempt))
    said = ""
    while True:
        ended = bool(select.select([sys.stdin], [], [], INTERVAL_SECONDS)[0])
        failure = keeping.store()
        if failure and failure != said:
            print(redacted(failure), flush=True)
        said = failure
        if ended:
            return 0
