"""Child processes that outlive us, and are never confused with anybody else's. Called by control_plane and node."""

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from finetune_operator.local.state import read_json, write_file

CLUSTER_MARK = "FINETUNE_LOCAL_CLUSTER"
"""Environment variable of every process of a cluster, Pods included; its value is the state folder."""

_CHILDREN: list[subprocess.Popen[bytes]] = []
"""Processes that we started and that may outlive us: kept until they have ended, then reaped."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """A process, told apart from a later one that was given the same number."""

    pid: int
    started: int
    """Clock ticks since boot, from /proc."""
    boot: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return identify(self.pid) == self


def identify(pid: int) -> ProcessId | None:
    """Return who runs under a process number now; None for nobody or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    if fields[0] in "ZX":
        return None
    return ProcessId(pid=pid, started=int(fields[19]), boot=_BOOT_ID.read_text().strip())


def remember(path: Path, process: ProcessId) -> None:
    """Write a pid file."""
    write_file(path, json.dumps(asdict(process)))


def recall(path: Path) -> ProcessId | None:
    """Read a pid file; None where it is missing or its process is gone."""
    data = read_json(path)
    process = ProcessId(**data) if data else None
    return process if process and process.alive else None


def start(
    command: Sequence[str], *, pid_file: Path, log: Path, env: Mapping[str, str], cwd: Path
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that a Ctrl-C in our terminal does not reach it."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=cwd, start_new_session=True
        )
    _CHILDREN.append(child)
    _reap()
    if process := identify(child.pid):
        remember(pid_file, process)
    return child


def send(process: ProcessId, number: signal.Signals) -> bool:
    """Signal a process; False when it is gone. A pidfd cannot hit a successor of the same number."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(process.pid)
        try:
            if process.alive:
                signal.pidfd_send_signal(handle, number)
                return True
        finally:
            os.close(handle)
    return False


def wait(process: ProcessId, *, seconds: float) -> bool:
    """Wait for the end of any process, child or not; False when it still runs after that time."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return not process.alive or bool(poll.poll(seconds * 1000))
    finally:
        os.close(handle)
        _reap()


def stop(process: ProcessId, *, seconds: float) -> bool:
    """End a process: SIGTERM, then SIGKILL after some seconds. True when it went by itself."""
    send(process, signal.SIGTERM)
    if wait(process, seconds=seconds):
        return True
    send(process, signal.SIGKILL)
    wait(process, seconds=10)
    return False


def marked(variable: str, value: str) -> list[ProcessId]:
    """Find every process whose environment has this value, except ourselves and our ancestors."""
    wanted = f"{variable}={value}".encode()
    spared = _ancestors()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(folder.name) in spared or wanted not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            if process := identify(int(folder.name)):
                found.append(process)
    return found


def kill_all(processes: Iterable[ProcessId]) -> None:
    """SIGKILL processes and wait until they are gone."""
    doomed = list(processes)
    for process in doomed:
        send(process, signal.SIGKILL)
    deadline = time.monotonic() + 10
    for process in doomed:
        wait(process, seconds=max(0.0, deadline - time.monotonic()))


def memory_mib(process: ProcessId) -> float:
    """Return the resident memory of a process; 0 when it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0


def age_seconds(process: ProcessId) -> float:
    """Return how long a process has been running."""
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - process.started / os.sysconf("SC_CLK_TCK")


def _reap() -> None:
    """Let go of children that have ended. Whoever waits for one by its pidfd leaves the object to warn that it runs."""
    _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]


def _ancestors() -> set[int]:
    """Return our process number and those above us."""
    pids, pid = {os.getpid()}, os.getppid()
    while pid > 1 and pid not in pids:
        pids.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            break
    return pids
