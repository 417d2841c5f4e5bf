"""Programs of others beside the tests' control plane: each a process with its log in a file, ended with its test."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LAST = 4000
"""So many letters of a log are shown when a test fails."""


@dataclass(frozen=True)
class Process:
    """A program that runs."""

    child: subprocess.Popen[bytes]
    log: Path

    def alive(self) -> bool:
        """Fail with the end of the log if it has ended."""
        assert self.child.poll() is None, f"{self.log.stem} has ended:\n{self.tail}"
        return True

    @property
    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-LAST:]


@contextmanager
def running(command: Sequence[str | Path], log: Path, env: Mapping[str, str]) -> Iterator[Process]:
    """Run a program until the block ends."""
    with log.open("wb") as sink:
        child = subprocess.Popen([str(word) for word in command], env=os.environ | env, stdout=sink, stderr=sink)
        try:
            yield Process(child, log)
        finally:
            child.terminate()
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-LAST:]}")
