"""A worker with a parent of its own, which sees by what it ends. Called by worker where torchrun starts several.

torchrun looks at its processes ten times a second. By then the one that was killed and those that lost it have all ended, and
what is left is the text of gloo or NCCL. This parent imports no library; it writes the verdict of a child that could not.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from finetune_contract import Outcome

from finetune_trainer.process import verdict

CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)
"""Signals that a process brings upon itself."""


def watched(work: Callable[[], int], folder: Path, *, rank: int, where: str) -> int:
    """Do the work in a child process; returns its exit code. `where` names the process for people."""
    child = os.fork()  # before any library has started a thread
    if child == 0:
        os._exit(_flushed(work))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # torchrun signals the whole session: the child hears it
    _pid, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        verdict.write(killed(where, os.WTERMSIG(status)), folder, rank=rank)
    return abs(os.waitstatus_to_exitcode(status))


def _flushed(work: Callable[[], int]) -> int:
    try:
        return work()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


def killed(where: str, number: int) -> Outcome:
    """Describe the end of a process by a signal."""
    name = f"signal {number} ({signal.Signals(number).name})"
    if number in CRASHES:
        return Outcome(outcome="Failed", reason="TrainerError", message=f"{where} crashed with {name}")
    return Outcome(outcome="Failed", reason="Killed", message=f"{where} was killed by {name}")
