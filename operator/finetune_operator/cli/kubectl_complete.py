"""`kubectl_complete-finetune`: what kubectl runs to complete `kubectl finetune`. It answers as kubectl's own completion does."""

import io
import os
import shlex
import sys
from contextlib import redirect_stdout, suppress

from finetune_operator.cli import main as finetune

FILES = 0
"""cobra's directive for: complete file names if nothing is offered."""

NO_FILES = 4
NO_SPACE = 2


def main() -> None:
    """Print a candidate a line, with a tab and what it is, and then the directive. The last argument is the word in the making."""
    words = shlex.join(("finetune", *sys.argv[1:]))
    # fish's protocol: the one that has candidates with what they are
    os.environ |= {
        "_FINETUNE_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_ARGS": words,
    }  # fmt: skip
    sys.argv = ["finetune"]
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        finetune()
    offered = [line for line in printed.getvalue().splitlines() if line.strip()]
    print("\n".join((*offered, f":{directive(offered)}")))


def directive(offered: list[str]) -> int:
    """Return what the shell may add: file names where nothing is offered, no space after `training.learningRate=`."""
    if not offered:
        return FILES
    return NO_FILES | (NO_SPACE if all(line.partition("\t")[0].endswith("=") for line in offered) else 0)


if __name__ == "__main__":
    main()
