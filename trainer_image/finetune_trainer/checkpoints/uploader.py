"""The process that brings checkpoints to their destination, one per replica. Started by uploads, ends with the trainer.

It hashes, uploads, marks and removes while the trainer trains. It reads requests from stdin and answers on stdout, one JSON a
line. A storage that does not answer is asked again, later and later; the trainer decides when that is enough. No torch here.
"""

import itertools
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from finetune_contract import RunConfig
from finetune_contract.wire import dumps, loads

from finetune_trainer.checkpoints.checkpoints import Checkpoints
from finetune_trainer.checkpoints.delivery import Delivered, clear, deliver, mark, prune
from finetune_trainer.checkpoints.holder import Holder
from finetune_trainer.errors import ReportedError, StorageUnavailable
from finetune_trainer.runtime.lifeline import die_with_parent
from finetune_trainer.storage import Role, open_location
from finetune_trainer.storage.secrecy import redacted

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
"""Between two tries; it doubles. A gateway that restarts is back within seconds, one that is overloaded needs peace."""

NICENESS = 10
"""Hashing yields to the trainer where cores are few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The first line: whose checkpoints these are."""

    run: RunConfig
    scratch: str
    holder: Holder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One stage of a checkpoint's way."""

    stage: str
    """clear | upload | mark"""
    name: str
    step: int
    folder: str = ""
    files: dict[str, str] = field(default_factory=dict)
    size_bytes: int = 0
    best: str = ""
    """The best slot that this checkpoint names."""
    prune: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a request: any number of `retrying`, then one of the others."""

    kind: str
    """retrying | done | failed"""
    files: dict[str, str] = field(default_factory=dict)
    size_bytes: int = 0
    tries: int = 1
    reason: str = ""
    message: str = ""


def main() -> int:
    """Answer requests until stdin ends."""
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the trainer hears it, and waits for this process
    os.nice(NICENESS)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    start = loads(Start, sys.stdin.readline())
    for line in iter(sys.stdin.readline, ""):
        request = loads(Request, line)
        answer = _persistently(lambda: carry_out(start, request), answers)  # noqa: B023 - called at once
        _say(answer, answers)
    return 0


def carry_out(start: Start, request: Request) -> Delivered:
    """Do what one request asks for."""
    store = open_location(start.run.checkpoint.location, Role.CHECKPOINT)
    checkpoints = Checkpoints(store, start.run, scratch=Path(start.scratch))
    checkpoints.holder = start.holder
    delivered = Delivered(files=request.files, size_bytes=request.size_bytes)
    match request.stage:
        case "clear":
            clear(checkpoints, request.name)
        case "upload":
            return deliver(checkpoints, Path(request.folder), request.name)
        case "mark":
            mark(checkpoints, request.name, request.step, delivered)
            if request.prune:
                prune(checkpoints, best=request.best)
    return delivered


def _persistently(act: Callable[[], Delivered], answers: TextIO) -> Answer:
    """Try until it works or cannot work, with longer and longer pauses."""
    for tries in itertools.count(1):
        try:
            done = act()
        except StorageUnavailable as error:
            _say(Answer(kind="retrying", tries=tries, message=redacted(error.message)), answers)
            time.sleep(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(tries - 1, 10)))
        except ReportedError as error:
            return Answer(kind="failed", tries=tries, reason=error.reason, message=redacted(error.message))
        except Exception:  # noqa: BLE001 - the boundary: the trainer reports it
            return Answer(kind="failed", tries=tries, reason="TrainerError", message=redacted(traceback.format_exc()))
        else:
            return Answer(kind="done", tries=tries, files=done.files, size_bytes=done.size_bytes)
    raise AssertionError("the tries never end")


def _say(answer: Answer, answers: TextIO) -> None:
    print(dumps(answer), file=answers, flush=True)
