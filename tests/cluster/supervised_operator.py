"""The operator as a Deployment runs it: whenever it ends it is started again. Forked from a process that has imported everything."""

import asyncio
import dataclasses
import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sized
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from finetune_operator.cli import main as finetune
from finetune_operator.controller.process import Operator

from tests.cluster.client import eventually

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__, "finetune_operator.controller.process"])

QUICK = (
    "--retry-back-off-seconds=0",
    "--no-leader-elect",
    "--no-pod-logs",
    "--resync-seconds=1",
    "--refused-seconds=2",
)
"""Retries at once; compares often, so that the tests wait for no watch."""


MAPS = "maps "
"""What a line of the log begins with that says how many entries each of the operator's collections has."""


def sizes(part: Any, path: str = "", seen: set[int] | None = None) -> dict[str, int]:
    """Return the number of entries of each collection in a part of the operator, and in its parts; each part once."""
    if isinstance(part, asyncio.Queue):
        return {path: part.qsize()}
    if isinstance(part, Sized) and not isinstance(part, (str, bytes, tuple)):
        return {path: len(part)}
    seen = set() if seen is None else seen
    ours = dataclasses.is_dataclass(part) and type(part).__module__.startswith("finetune_operator.controller")
    if not ours or id(part) in seen:
        return {}
    seen.add(id(part))
    found = {}
    for each in dataclasses.fields(part):
        found |= sizes(getattr(part, each.name, None), f"{path}.{each.name}".lstrip("."), seen)
    return found


def tell_sizes(*_: object) -> None:
    """Write the sizes of all collections into the log."""
    gc.unfreeze()  # what the operator froze at its start is not listed
    (operator,) = (each for each in gc.get_objects() if isinstance(each, Operator))
    os.write(1, f"{MAPS}{json.dumps(sizes(operator))}\n".encode())


def run(arguments: tuple[str, ...], log: str) -> None:
    """Be the operator, with a log of its own."""
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, tell_sizes)
    asyncio.set_event_loop_policy(None)
    sys.argv = ["finetune", "run", *arguments]
    finetune()


@dataclass
class SupervisedOperator:
    """One operator at a time, whatever happens to it, until `stop`."""

    kubeconfig: Path
    log: Path
    options: tuple[str, ...]
    starts: int = 0
    _process: ForkServerProcess | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _supervisor: threading.Thread | None = None

    def start(self) -> None:
        """Start it, and see to it that it runs."""
        self.log.touch()
        self._fork()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._supervisor.start()

    def _fork(self) -> None:
        with self._lock:
            if self._stopped.is_set():
                return
            arguments = (f"--kubeconfig={self.kubeconfig}", *QUICK, *self.options)
            self._process = FORKS.Process(target=run, args=(arguments, str(self.log)), daemon=True)
            self._process.start()
            self.starts += 1

    def _supervise(self) -> None:
        while not self._stopped.is_set():
            assert self._process is not None
            self._process.join()
            self._fork()

    def kill(self) -> None:
        """SIGKILL; another one starts."""
        assert self._process is not None
        self._process.kill()
        self._process.join(timeout=10)

    def stop(self) -> None:
        """End it for good."""
        self._stopped.set()
        if self._supervisor is None:
            return
        with self._lock:
            self.kill()
        self._supervisor.join(timeout=10)

    def maps(self) -> dict[str, int]:
        """Return how many entries each of its collections has."""
        before = self.text.count(MAPS)
        os.kill(self.pid, signal.SIGUSR1)
        eventually(lambda: self.text.count(MAPS) > before and self.text.endswith("\n"), "the operator tells its sizes")
        last = self.text.rpartition(MAPS)[2].splitlines()[0]
        told: dict[str, int] = json.loads(last)
        return told

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    @property
    def text(self) -> str:
        """The log of all of them so far."""
        return self.log.read_text()
