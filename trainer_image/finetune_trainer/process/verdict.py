"""How a worker ended: from an exception to an Outcome, and the file that carries it to the entry process.

torchrun always exits 1, so each worker writes its verdict; entry reads them and exits with the right code.
Imports no torch: entry needs it too.
"""

import errno
import re
import traceback
from pathlib import Path

from finetune_contract import ExitCode, Outcome, parse_outcome
from finetune_contract.wire import dumps

from finetune_trainer.errors import ReportedError
from finetune_trainer.storage.secrecy import redacted

NOBODY_MUST_ACT = frozenset({"StorageUnavailable", "StorageFull", "CommunicationTimeout", "TrainerError"})
"""Reasons that a later attempt may not meet again; every other reason of an error with a reason is the user's to cure."""

OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What CUDA, NCCL, cuBLAS and bitsandbytes say when the GPU is full."""

HOST_OUT_OF_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "not enough memory: you tried to allocate")
DISK_FULL = ("No space left on device", "Disk quota exceeded")
LOST_EACH_OTHER = ("connection closed by peer", "connection reset by peer", "connectfullmesh", "timed out waiting",
                   "nccl communicator was aborted", "socket timeout", "broken pipe")  # fmt: skip
"""What gloo and NCCL say when another process is gone."""


PEER = re.compile(r"\[([0-9a-fA-F.:]+)\]:\d+")
"""How gloo writes the address of the process that it lost."""


def failure(error: BaseException, *, during: str = "") -> Outcome:
    """Tell what an exception means: a reason from the contract, and a message that says what to do where that is known."""
    reason, message = _reason(error), str(error)
    if reason == "OutOfMemory":
        message = f"GPU memory ran out{during}: {_first_line(message)}"
    elif reason == "CommunicationTimeout" and not isinstance(error, ReportedError):
        message = _lost(message, during)
    elif reason == "TrainerError" and not isinstance(error, ReportedError):
        message = "".join(traceback.format_exception(error)[-3:]).strip()
    return Outcome(outcome="Failed", reason=reason, message=redacted(message))


def _lost(text: str, during: str) -> str:
    """Say what the communication library's text means; the text itself is in the log, with the traceback."""
    peer = PEER.search(text)
    whom = f"the process at {peer.group(1)}" if peer else "another process of the run"
    return (
        f"the connection to {whom} was lost{during}: that process ended, or the network between the Pods failed. Its own Pod "
        "says which"
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, ReportedError):
        return error.reason
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError" or _says(text, OUT_OF_MEMORY):
        return "OutOfMemory"
    if isinstance(error, MemoryError) or _says(text, HOST_OUT_OF_MEMORY):
        return "HostOutOfMemory"
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _says(text, DISK_FULL):
        return "StorageFull"
    if type(error).__name__.startswith("Dist") or _says(text, LOST_EACH_OTHER):
        return "CommunicationTimeout"
    return "TrainerError"


def _says(text: str, phrases: tuple[str, ...]) -> bool:
    return any(phrase.lower() in text.lower() for phrase in phrases)


def trace(error: BaseException) -> str:
    """Return the traceback as Python would print it."""
    return "".join(traceback.format_exception(error))


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "")


def exit_code(outcome: Outcome) -> int:
    """Return the exit code that goes with an outcome."""
    if outcome.outcome == "Succeeded":
        return ExitCode.DONE
    if outcome.outcome == "Preempted":
        return ExitCode.PREEMPTED
    if outcome.reason == "OutOfMemory":
        return ExitCode.OUT_OF_MEMORY
    unforeseen = outcome.reason in NOBODY_MUST_ACT or outcome.reason in ("HostOutOfMemory", "Stalled", "Killed")
    return ExitCode.ERROR if unforeseen else ExitCode.USER_ERROR


def write(outcome: Outcome, folder: Path, *, rank: int) -> None:
    """Leave a verdict for the entry process, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".verdict-{rank}"
    scratch.write_text(dumps(outcome))
    scratch.replace(folder / f"verdict-{rank}.json")


def read(folder: Path) -> Outcome | None:
    """Return what the replica's workers say: the failure that is the cause, else the verdict of the lowest rank.

    The first failure is the cause; what the other processes report is that they lost it, perhaps a moment earlier.
    """
    files = sorted(folder.glob("verdict-*.json"), key=lambda path: int(path.stem.rpartition("-")[2]))
    verdicts = [(path.stat().st_mtime_ns, parse_outcome(path.read_text())) for path in files]
    failed = [(time, outcome) for time, outcome in verdicts if outcome is not None and outcome.outcome == "Failed"]
    if failed:
        return min(failed, key=lambda pair: (_is_consequence(pair[1]), pair[0]))[1]
    return next((outcome for _, outcome in verdicts if outcome is not None), None)


def first_failure(folder: Path) -> float | None:
    """Return when a worker of this replica first failed, in seconds since the epoch; None while none has."""
    outcomes = [(path.stat().st_mtime, parse_outcome(path.read_text())) for path in folder.glob("verdict-*.json")]
    return min((time for time, outcome in outcomes if outcome and outcome.outcome == "Failed"), default=None)


def _is_consequence(outcome: Outcome) -> bool:
    """NCCL's own watchdog ends a process that lost another one with SIGABRT."""
    return outcome.reason == "CommunicationTimeout" or outcome.message.endswith("(SIGABRT)")
