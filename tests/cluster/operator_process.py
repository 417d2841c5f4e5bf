"""The operator as a real subprocess: `python -m finetune_operator run`, with its log in a file."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.client import eventually


@dataclass
class OperatorProcess:
    """One operator at a time; it can be killed and started again."""

    kubeconfig: Path
    log: Path
    options: tuple[str, ...] = ()
    program: tuple[str, ...] = ("-m", "finetune_operator")
    process: "subprocess.Popen[bytes] | None" = None
    _starts: int = field(default=0)

    def start(self, *, wait: bool = True) -> None:
        """Start it; wait until it has seen the cluster."""
        command = [sys.executable, *self.program, "run", f"--kubeconfig={self.kubeconfig}", *self.options]
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                command, stdout=sink, stderr=sink, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )
        self._starts += 1
        if wait:
            self.said("ready jobs=", times=self._starts)

    def said(self, text: str, *, times: int = 1) -> None:
        """Wait until the log holds a text so many times."""
        eventually(lambda: self.text.count(text) >= times or self._ended(), f"{text!r} in the log")
        assert self.text.count(text) >= times, self.text

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    @property
    def text(self) -> str:
        """The log so far."""
        return self.log.read_text()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=10)

    def terminate(self) -> int:
        """SIGTERM; return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def wait(self, seconds: float) -> int:
        """Wait until it ends by itself; return the exit code."""
        assert self.process is not None
        return self.process.wait(timeout=seconds)

    def close(self) -> None:
        """End it whatever it does."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
