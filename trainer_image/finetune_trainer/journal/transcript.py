"""What this process and its children print: passed on to the container's log, and kept in files. Used by entry and preflight.

Imports no library, as the entry process. Progress reports are left out of the files: the history of metrics has them.
"""

import os
import sys
import threading
from pathlib import Path

from finetune_contract import parse_progress

from finetune_trainer.journal.parts import Parts

DRAIN_SECONDS = 5.0
"""A child that was left behind may hold the pipe open; nobody waits longer for its last words."""

READ_BYTES = 65536


class Transcript:
    """Takes the place of stdout and stderr from `begin` to `end`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._parts = Parts(folder, name, ".log")
        self._before = (os.dup(1), os.dup(2))
        self._reader, writer = os.pipe()
        self._rest = b""
        self._thread = threading.Thread(target=self._follow, daemon=True)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(writer)

    def follow(self) -> None:
        """Pass on what is printed, from now on and so far. Called when no process is to be forked any more."""
        self._thread.start()

    def end(self) -> None:
        """Give stdout and stderr back, and keep what was printed until then."""
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in zip((1, 2), self._before, strict=True):
            os.dup2(before, number)
        if not self._thread.ident:
            self._thread.start()
        self._thread.join(DRAIN_SECONDS)

    def _follow(self) -> None:
        while data := os.read(self._reader, READ_BYTES):
            _pass_on(self._before[0], data)
            self._keep(data)
        if self._rest:
            self._keep(b"\n")

    def _keep(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        kept = [line for line in lines if parse_progress(line.decode(errors="replace")) is None]
        if kept:
            self._parts.append(b"\n".join(kept) + b"\n")


def _pass_on(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
