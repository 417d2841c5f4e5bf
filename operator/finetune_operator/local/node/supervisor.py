"""Run one container's command and write down how it ended. Started by containers, outlives the node that started it.

A process of its own, standard library only, so that it starts in milliseconds: `python -I -S supervisor.py FOLDER`.
In FOLDER it reads launch.json and writes supervisor.json (who it is), started.json, log and result.json.
SIGTERM goes on to the container's main process, SIGUSR1 kills all its processes, as the end of the main process does.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

PR_SET_CHILD_SUBREAPER = 36
LONGEST_LINE = 16384
"""A longer line is written in parts, as container runtimes do."""

START_ERROR = 128
"""Exit code of a container whose command cannot be started, as container runtimes report it."""


def main(folder: Path) -> None:
    """Run the command of a container folder to its end."""
    if not claim(folder):
        return
    # processes that leave the main process's session (torchrun's workers do) become our children when it ends
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    launch = json.loads((folder / "launch.json").read_text())
    read, write = os.pipe()
    began = now()
    # a SIGTERM before the command has started must not be lost: it is delivered when the handler is there
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    try:
        child = subprocess.Popen(
            launch["command"],
            env=launch["env"],
            cwd=launch["folder"],
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write,
            start_new_session=True,
            preexec_fn=unblock,  # noqa: PLW1509 no threads here
        )
    except OSError as error:
        message = f'exec: "{launch["command"][0]}": {error.strerror}'
        put(
            folder / "result.json", {"exitCode": START_ERROR, "startedAt": began, "finishedAt": now(), "error": message}
        )
        return
    os.close(write)
    put(folder / "started.json", {"pid": child.pid, "startedAt": began})
    catch_signals(child)
    pump(read, folder / "log", child)
    put(folder / "result.json", {"exitCode": exit_code(child.wait()), "startedAt": began, "finishedAt": now()})


def claim(folder: Path) -> bool:
    """Become the one supervisor of a folder; False when there is one already."""
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    me = {
        "pid": os.getpid(),
        "started": int(fields[19]),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    }
    partial = folder / f".supervisor.{os.getpid()}"
    partial.write_text(json.dumps(me))
    try:
        os.link(partial, folder / "supervisor.json")
    except FileExistsError:
        return False
    finally:
        partial.unlink()
    return True


def unblock() -> None:
    """Undo the blocking of signals in the child."""
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def catch_signals(child: subprocess.Popen[bytes]) -> None:
    """Pass SIGTERM on and obey SIGUSR1, from now on."""

    def terminate(_number: int, _frame: FrameType | None) -> None:
        child.send_signal(signal.SIGTERM)

    def kill(_number: int, _frame: FrameType | None) -> None:
        kill_descendants()

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGUSR1, kill)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def pump(read: int, path: Path, child: subprocess.Popen[bytes]) -> None:
    """Write the output to the log, line by line with the time, until the main process ends; then end all its others."""
    ended = os.pidfd_open(child.pid)
    rest = b""
    with path.open("ab", buffering=0) as log:
        while wait_for(read, ended):
            block = os.read(read, 65536)
            if not block:
                break  # it closed its output and runs on
            rest = write_lines(log.write, rest + block)
        child.wait()
        end_descendants()
        while block := os.read(read, 65536):
            rest = write_lines(log.write, rest + block)
        if rest:
            log.write(f"{stamp()} P ".encode() + rest + b"\n")


def wait_for(read: int, ended: int) -> bool:
    """Wait for output or the end of the main process; False at its end."""
    poll = select.poll()
    poll.register(read, select.POLLIN | select.POLLHUP)
    poll.register(ended, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll()}
    return read in ready or ended not in ready


def write_lines(write: Callable[[bytes], object], data: bytes) -> bytes:
    """Write whole lines; return what is left. F marks a line's last part, P an earlier one."""
    *lines, rest = data.split(b"\n")
    time_stamp = stamp().encode()
    parts = [time_stamp + b" F " + line + b"\n" for line in lines]
    while len(rest) >= LONGEST_LINE:
        parts.append(time_stamp + b" P " + rest[:LONGEST_LINE] + b"\n")
        rest = rest[LONGEST_LINE:]
    write(b"".join(parts))
    return rest


def kill_descendants() -> None:
    """SIGKILL all processes below us, however deep."""
    for pid in descendants():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end_descendants() -> None:
    """Kill and reap until nobody is left; call it when the main process has been waited for."""
    with contextlib.suppress(ChildProcessError):
        while True:
            kill_descendants()
            os.waitpid(-1, 0)  # what was below it is ours next, and is killed in the next round


def descendants() -> list[int]:
    """Return every process below us that still runs."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            parents[int(folder.name)] = (int(fields[1]), fields[0])
    below = {os.getpid()}
    while found := {pid for pid, (parent, _) in parents.items() if parent in below and pid not in below}:
        below |= found
    return [pid for pid in below - {os.getpid()} if parents[pid][1] not in "ZX"]


def exit_code(code: int) -> int:
    """Return the code a shell and a kubelet would show: 128 + n for signal n."""
    return 128 - code if code < 0 else code


def now() -> str:
    """Return the time as Pod status spells it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def stamp() -> str:
    """Return the time of a log line: fixed width, so that stamps compare as text."""
    nanoseconds = time.time_ns()
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 1_000_000_000))
    return f"{seconds}.{nanoseconds % 1_000_000_000:09d}Z"


def put(path: Path, data: dict[str, object]) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(data))
    partial.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
