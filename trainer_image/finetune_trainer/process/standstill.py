"""Where the workers stand when no step comes to an end: who waits for others, and who is waited for. Called by entry."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

from finetune_trainer.runtime import heartbeat

DUMP_SECONDS = 3.0
"""faulthandler writes the stacks in a signal handler; so long the workers get for it."""

FRAME = re.compile(r'^  File "(.+)", line (\d+) in (\S+)$', re.MULTILINE)
OWN = "/finetune_trainer/process/worker.py"
"""Is on the stack of each worker's main thread."""

COLLECTIVES = ("/torch/distributed/", "/deepspeed/comm/")
BACKWARD = "/torch/autograd/graph.py"
STATES = {"T": "is stopped (SIGSTOP)", "t": "is held by a debugger", "D": "waits for a disk or the network (state D)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one rank stands."""

    rank: int
    text: str
    waits: bool
    """For other ranks, as far as its stack tells."""


def stacks_file(folder: Path, rank: int) -> Path:
    """Return where a worker's stacks go."""
    return folder / f"stacks-{rank}"


def dumped(folder: Path) -> dict[int, str]:
    """Return the stacks of each rank as far as it wrote any. Waits until nothing grows any more."""
    deadline, before = time.monotonic() + DUMP_SECONDS, ""
    while True:
        time.sleep(DUMP_SECONDS / 10)
        found = {rank: _text(stacks_file(folder, rank)) for rank in heartbeat.processes(folder)}
        now = "".join(found.values())
        if time.monotonic() > deadline or (all(found.values()) and now == before):
            return found
        before = now


def place(rank: int, stacks: str, state: str) -> Place:
    """Say where a rank stands. `state` is the letter of proc(5); empty for a process that is gone."""
    if not state or state == "Z":
        return Place(rank=rank, text="has ended", waits=False)
    if state in STATES:
        return Place(rank=rank, text=STATES[state], waits=False)
    threads = re.split(r"^(?=Current thread|Thread )", stacks, flags=re.MULTILINE)
    frames = next((FRAME.findall(thread) for thread in threads if OWN in thread), [])
    if not frames:
        return Place(rank=rank, text="does not answer", waits=False)
    for file, _line, function in frames:
        if any(part in file for part in COLLECTIVES):
            return Place(rank=rank, text=f"waits in a collective ({function})", waits=True)
        if file.endswith(BACKWARD):
            return Place(rank=rank, text="is in the backward pass", waits=True)
    file, line, function = frames[0]
    return Place(rank=rank, text=f"is in {function} ({'/'.join(Path(file).parts[-2:])}:{line})", waits=False)


def described(places: list[Place]) -> str:
    """Say who holds the run up, where one rank stands elsewhere than those that wait."""
    told = "; ".join(f"rank {each.rank} {each.text}" for each in places)
    culprits = [str(each.rank) for each in places if not each.waits]
    if len(places) > 1 and not culprits:
        return f"{told}. All ranks of this Pod wait for each other, for another Pod or for the network"
    if 0 < len(culprits) < len(places):
        return f"{told}. The others wait for rank {', '.join(culprits)}"
    return told


def state(pid: int) -> str:
    """Return the state of a process (proc(5)); empty where there is none."""
    return _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].strip()[:1]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
