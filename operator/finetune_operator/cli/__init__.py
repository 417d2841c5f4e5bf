"""The command line: `finetune` and `kubectl finetune`. `run`, `local` and what is about jobs need a cluster."""

import errno
import gc
import io
import os
import sys

from finetune_operator.errors import FinetuneError

ENV_TRACEBACK = "FINETUNE_TRACEBACK"
YOUNG_OBJECTS = 50_000
"""New objects after which garbage is looked for: with Python's 700 a fifth of a short command goes into looking."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
INTERNAL_ERROR = 70
"""Exit code of an end that nobody foresaw (EX_SOFTWARE of sysexits.h)."""


def main() -> None:
    """Run the command line; exit with 1 and a message on stderr when something that we foresaw goes wrong. Nobody sees a traceback."""
    # pydantic would read the entry points of every installed package to look for plugins; nothing here has any
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(YOUNG_OBJECTS)
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")  # `finetune models >&-`
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a terminal or a pipe that knows ASCII only gets \\u27e6, not an error
            stream.reconfigure(errors="backslashreplace")
    from finetune_operator.cli.app import app  # noqa: PLC0415  # importing a sub-command must not import the frame

    try:
        app()
    except FinetuneError as error:
        print(f"finetune: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `finetune models | head`
        forget_output()
        sys.exit(0)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            forget_output()
            print(f"finetune: the output cannot be written: {error.strerror}", file=sys.stderr)
            sys.exit(1)
        if os.environ.get(ENV_TRACEBACK):
            raise
        print(f"finetune: {bug_words(error)}", file=sys.stderr)
        sys.exit(INTERNAL_ERROR)


def forget_output() -> None:
    """Let what is not written yet go nowhere: Python would try again at its end, and fail with a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def bug_words(error: Exception) -> str:
    """Say that the fault is ours, and how to find it."""
    said = " ".join(str(error).split())
    return (
        f"internal error ({type(error).__name__}{f': {said}' if said else ''}). This is a bug: please report it with the command and the "
        f"output of the same command with {ENV_TRACEBACK}=1"
    )
