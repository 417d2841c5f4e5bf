"""What a run costs: CPU time and memory of processes, and requests by who sent them, from the audit log."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

SPIN = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
"""Takes a core for as long as nobody else wants it (Linux)."""

WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int, field: str = "VmRSS") -> float:
    """Return the resident memory of a process, or with VmHWM its peak since it started."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


@dataclass
class Meter:
    """CPU time of processes since it was made, and writes per client since then."""

    pids: dict[str, int]
    audit_log: Path
    _cpu: dict[str, float] = field(init=False)
    _offset: int = field(init=False)
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._cpu = {name: cpu_seconds(pid) for name, pid in self.pids.items()}
        self._offset = self.audit_log.stat().st_size
        self._began = time.monotonic()

    def cpu(self, name: str) -> float:
        """Return the CPU seconds of a process."""
        return cpu_seconds(self.pids[name]) - self._cpu[name]

    def writes(self, client: str) -> Counter[str]:
        """Return the writes of the client whose user agent begins so: verb, resource and answer -> number."""
        found: Counter[str] = Counter()
        with self.audit_log.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                event = json.loads(line)
                if event["verb"] in WRITES and event.get("userAgent", "").startswith(client):
                    ref = event.get("objectRef", {})
                    what = "/".join(filter(None, (ref.get("resource", ""), ref.get("subresource", ""))))
                    found[f"{event['verb']} {what} {event.get('responseStatus', {}).get('code', 0)}"] += 1
        return found


def settled(pid: int, seconds: float = 2.0) -> None:
    """Wait until a process has used next to nothing for a while."""
    before, quiet_since = cpu_seconds(pid), time.monotonic()
    while time.monotonic() - quiet_since < seconds:
        time.sleep(0.1)
        if (now := cpu_seconds(pid)) - before > 0.02 * seconds:
            before, quiet_since = now, time.monotonic()


@dataclass
class Peak:
    """The largest memory of a process while the block runs; /proc's own peak cannot be reset."""

    pid: int
    mib: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.mib = max(self.mib, rss_mib(self.pid))

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Let no core fall idle while the block runs.

    On a virtual machine the same work takes up to half as much CPU time again after a core has slept, most of all work that
    comes in small pieces. Where no core sleeps, a steady rate can be compared with a burst.
    """
    with contextlib.ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", SPIN]))
            stack.callback(process.kill)
        yield
