"""One container as a folder with files, and its process behind a supervisor. Called by worker.

All that is known of a container is in its folder, so a node that starts anew knows as much as the one before.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from finetune_operator.local.node.environment import Launch
from finetune_operator.local.processes import CLUSTER_MARK, ProcessId, identify, kill_all, marked, recall, send
from finetune_operator.local.state import read_json, write_file

CONTAINER_MARK = "FINETUNE_LOCAL_CONTAINER"
"""Environment variable of every process of a container; its value is the container's folder."""

SUPERVISOR = Path(__file__).parent / "supervisor.py"
LOST_CODE = 137
POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """How a container is, in the words of Pod status."""

    phase: str
    """waiting | running | terminated"""
    reason: str = ""
    message: str = ""
    exit_code: int = 0
    started_at: str = ""
    finished_at: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether it ended with code 0."""
        return self.phase == "terminated" and self.exit_code == 0


CREATING = ContainerState(phase="waiting", reason="ContainerCreating")
INITIALIZING = ContainerState(phase="waiting", reason="PodInitializing")


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a Pod on this node."""

    folder: Path

    @property
    def log(self) -> Path:
        """Its output, each line with a time stamp."""
        return self.folder / "log"

    @property
    def termination_message(self) -> Path:
        """What its terminationMessagePath stands for."""
        return self.folder / "termination-message"

    def prepare(self, launch: Launch) -> None:
        """Write down what is to be started."""
        for place in (self.folder, self.folder / "home"):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.termination_message.touch()
        env = launch.env | {CONTAINER_MARK: str(self.folder), CLUSTER_MARK: os.environ.get(CLUSTER_MARK, "")}
        write_file(self.folder / "launch.json", json.dumps(asdict(launch) | {"env": env}))

    @property
    def supervisor(self) -> ProcessId | None:
        """The supervisor, while it runs."""
        return recall(self.folder / "supervisor.json")

    @property
    def began(self) -> bool:
        """Whether a supervisor has ever taken it on: it is never started twice."""
        return (self.folder / "supervisor.json").exists()

    def state(self) -> ContainerState:
        """Return how the container is, from its files alone."""
        # In this order: a supervisor that was there and is gone has written its result before we look for that.
        began, supervisor = self.began, self.supervisor
        if result := read_json(self.folder / "result.json"):
            return terminated(result)
        if began and not supervisor:
            return self._lost()
        started = read_json(self.folder / "started.json")
        return ContainerState(phase="running", started_at=started["startedAt"]) if started else CREATING

    async def start(self) -> None:
        """Start the supervisor, unless there was one before; return when the command runs or cannot be started."""
        if not self.began:
            command = [sys.executable, "-I", "-S", str(SUPERVISOR), str(self.folder)]
            child = spawn(command, self.folder)
            await until(lambda: self.began or child.poll() is not None)
        await until(lambda: self.state() != CREATING or not self.began)

    async def wait(self) -> ContainerState:
        """Return the final state when the container has ended."""
        if process := self.supervisor:
            await ended(process)
        await until(lambda: self.state().phase != "running")
        return self.state()

    def terminate(self) -> None:
        """Send SIGTERM to the main process."""
        if process := self.supervisor:
            send(process, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL every process of the container."""
        if process := self.supervisor:
            send(process, signal.SIGUSR1)

    def _lost(self) -> ContainerState:
        """Settle a container whose supervisor was killed (by `finetune local down`, a reboot, the OOM killer)."""
        kill_all(marked(CONTAINER_MARK, str(self.folder)))
        started = read_json(self.folder / "started.json") or {}
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        result = {
            "exitCode": LOST_CODE,
            "reason": "ContainerStatusUnknown",
            "error": "The container could not be located when the pod was terminated",
            "startedAt": started.get("startedAt", stamp),
            "finishedAt": stamp,
        }
        write_file(self.folder / "result.json", json.dumps(result))
        return terminated(result)


_SUPERVISORS: list[subprocess.Popen[bytes]] = []
"""Supervisors that this node started: kept until they have ended, then reaped."""


def spawn(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a supervisor in a session of its own."""
    with (folder / "supervisor.log").open("ab") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    _SUPERVISORS[:] = [child, *(other for other in _SUPERVISORS if other.poll() is None)]
    return child


async def until(holds: Callable[[], bool]) -> None:
    """Wait until a supervisor has written something: it has no other way to tell, and takes milliseconds."""
    while not holds():  # noqa: ASYNC110  # the event is a file
        await asyncio.sleep(POLL_SECONDS)


async def ended(process: ProcessId) -> None:
    """Wait for the end of any process, child or not, without polling."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, done.set)
    try:
        if identify(process.pid) == process:
            await done.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def terminated(result: dict[str, object]) -> ContainerState:
    """Return the final state that a result file describes."""
    code = int(str(result["exitCode"]))
    error = str(result.get("error", ""))
    reason = str(result.get("reason") or ("StartError" if error else "Error" if code else "Completed"))
    return ContainerState(
        phase="terminated",
        reason=reason,
        message=error,
        exit_code=code,
        started_at=str(result["startedAt"]),
        finished_at=str(result["finishedAt"]),
    )
