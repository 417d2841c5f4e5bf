"""No process of a run outlives the one that started it. Called first by worker, entry and uploader."""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2): which signal to get when the parent dies."""


def die_with_parent() -> None:
    """Let the kernel end this process when its parent is gone: an orphan would go on training and hold the GPU."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
