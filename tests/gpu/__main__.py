"""`make gpu-check`: what the documents claim about GPUs, tried on one NVIDIA GPU within eight minutes and without a network.

    python -m tests.gpu --out gpu-check.jsonl            everything, on the GPU
    python -m tests.gpu --parts attention speed          some of it
    python -m tests.gpu --reduced                        the same lines on a CPU, on the smallest sizes

Each part has a deadline; its records are written as they are found, one JSON object a line, so that whatever ends the check loses
only what had not been found yet. `python -m tests.gpu.report gpu-check.jsonl` compares them with the planner's predictions.
"""

import argparse
import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("PYTORCH_ALLOC_CONF", "pinned_max_round_threshold_mb:64")

import torch

from tests.gpu import attention, learning, lifecycle, loading, offload, planned, speed
from tests.gpu.card import Card, Late, deadline, free, machine

TOTAL_SECONDS = 480.0

PARTS: dict[str, tuple[float, Callable[[Card], None]]] = {
    "attention": (60, attention.check),
    "planned": (160, planned.check),
    "speed": (90, speed.check),
    "loading": (50, loading.check),
    "learning": (35, learning.check),
    "offload": (40, offload.check),
    "lifecycle": (40, lifecycle.check),
}
"""In the order of their worth: seconds and what runs. What a part leaves over is the next one's."""


def main(arguments: list[str]) -> int:
    """Run the parts; returns 1 where one of them failed, 2 where there is no GPU."""
    given = parsed(arguments)
    if not given.reduced and not torch.cuda.is_available():
        print(
            "gpu-check: PyTorch sees no NVIDIA GPU here; --reduced tries the check itself on the CPU", file=sys.stderr
        )
        return 2
    warnings.simplefilter("ignore")
    with given.out.open("w") as out:
        return run(given.parts, "cpu" if given.reduced else "cuda", writer(out))


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-check.jsonl"), help="where the records are written")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--reduced", action="store_true", help="on the CPU, to try the check itself")
    return parser.parse_args(arguments)


def writer(out: Any) -> Callable[[dict[str, Any]], None]:
    """Return what writes a record at once, to the file and to the terminal."""

    def say(record: dict[str, Any]) -> None:
        line = json.dumps(record)
        out.write(line + "\n")
        out.flush()
        print(line, flush=True)

    return say


def run(parts: list[str], device: str, say: Callable[[dict[str, Any]], None]) -> int:
    """Run parts one after the other, each until its deadline; returns how many failed, at most 1."""
    say({"part": "machine", **machine(device)})
    started, failed = time.monotonic(), False
    planned_end = started
    for name in parts:
        seconds, check = PARTS[name]
        planned_end += seconds
        ends = min(planned_end, started + TOTAL_SECONDS)
        began = time.monotonic()
        card = Card(
            device=device, reduced=device == "cpu", say=lambda found, part=name: say({"part": part, **found}), ends=ends
        )
        outcome = outcome_of(check, card)
        failed = failed or outcome.startswith("error")
        say({"part": name, "ended": outcome, "seconds": round(time.monotonic() - began, 1)})
        free()
    return int(failed)


def outcome_of(check: Callable[[Card], None], card: Card) -> str:
    """Run one part; returns done, late, or the error with where it arose."""
    try:
        with deadline(card.left):
            check(card)
    except Late:
        return "late"
    except Exception as error:  # noqa: BLE001 - the other parts can still be measured
        traceback.print_exc()
        return f"error: {type(error).__name__}: {str(error)[:400]}"
    return "done"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
