"""Print how long each command takes to its first output, in milliseconds: its help, and those that need no cluster.

On a busy machine wall clock says more about the others: processor time is what an idle core would need.
"""

import subprocess
import sys
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from finetune_operator.cli.app import COMMANDS

FINETUNE = Path(sys.executable).parent / "finetune"
LIMIT_MS = 400
TIMES = 5
WHOLE = ("plan --model Qwen/Qwen2.5-7B --pools built-in", "models", "gpus", "version")


def main() -> None:
    for line in (*(f"{name} -h" for name in COMMANDS), *WHOLE):
        wall, processor = zip(*(once(line.split()) for _ in range(TIMES)), strict=True)
        over = "  OVER" if min(processor) > LIMIT_MS else ""
        print(
            f"{line:50} limit {LIMIT_MS} ms; wall {min(wall):5.0f}; processor {min(processor):5.0f}, least of {TIMES}{over}"
        )


def once(arguments: list[str]) -> tuple[float, float]:
    """Return wall clock until the first byte of output, and processor time of the whole command."""
    used, start = processor_seconds(), time.perf_counter()
    with subprocess.Popen([FINETUNE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdout is not None
        child.stdout.read(1)
        first = time.perf_counter() - start
        child.stdout.read()
    return 1000 * first, 1000 * (processor_seconds() - used)


def processor_seconds() -> float:
    """Return the processor time of children so far."""
    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
