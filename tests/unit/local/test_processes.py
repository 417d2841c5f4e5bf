"""Processes that may outlive us, when they do not."""

import os
import signal
from pathlib import Path

from finetune_operator.local.processes import ProcessId, identify, kill_all, send, start, stop, wait


def a_sleeper(folder: Path) -> ProcessId:
    """Start a process that does nothing."""
    child = start(["sleep", "1000"], pid_file=folder / "pid", log=folder / "log", env=os.environ, cwd=folder)
    process = identify(child.pid)
    assert process is not None
    return process


def test_a_stopped_process_is_reaped(tmp_path: Path):
    """However it was ended: no zombie is left, nor an object that warns at the end that its process still runs."""
    asked, killed, waited = (a_sleeper(tmp_path) for _ in range(3))
    stop(asked, seconds=10)
    kill_all([killed])
    send(waited, signal.SIGTERM)
    assert wait(waited, seconds=10)

    assert [process for process in (asked, killed, waited) if Path(f"/proc/{process.pid}").exists()] == []


def test_a_process_that_runs_on_is_kept(tmp_path: Path):
    """The end of one is not the end of the others."""
    ended, running = a_sleeper(tmp_path), a_sleeper(tmp_path)
    stop(ended, seconds=10)

    assert running.alive
    assert not wait(running, seconds=0)
    stop(running, seconds=10)
