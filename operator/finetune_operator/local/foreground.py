"""A cluster that lives as long as a terminal: `finetune local up --foreground`. Called by cli.local."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from finetune_operator.errors import LocalClusterError
from finetune_operator.local.binaries import Say
from finetune_operator.local.control_plane import running
from finetune_operator.local.state import ClusterState

LOOK_SECONDS = 1.0


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt as Ctrl-C does, so that what was begun is cleaned up.

    SIGINT too: a script that starts a command in the background makes it ignore Ctrl-C.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hold(state: ClusterState, *, say: Say) -> None:
    """Wait for Ctrl-C or SIGTERM. Raises LocalClusterError when a process of the cluster ends by itself."""
    say("running; press Ctrl-C to stop")
    expected = set(running(state))
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        while signal.sigtimedwait(numbers, LOOK_SECONDS) is None:
            if ended := expected - set(running(state)):
                raise LocalClusterError(f"{', '.join(sorted(ended))} exited unexpectedly: see {state.logs}")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
