"""Records of the check as a page of the documentation: `python -m tests.gpu.report [gpu-check.jsonl]`.

With a file, its records are kept as tests/gpu/results.jsonl and the page is made of them; without one, of those that are kept. The
predictions are the planner's of now. A test holds the page against the records.
"""

import json
import shutil
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.gpu.predictions import SCENARIOS, loading_gib, memory_of, speed_prediction

Record = dict[str, Any]
HERE = Path(__file__).parent
RESULTS, WHEELS = HERE / "results.jsonl", HERE / "wheels.json"
PAGE = HERE.parents[1] / "docs/reference/gpu-check.md"

HEAD = """# The check on a GPU

`make gpu-check` tries on one NVIDIA GPU what these documents claim about GPUs. It takes at most eight minutes, needs no network, and
writes one JSON object a line to `gpu-check.jsonl`, each as soon as it is measured. `python -m tests.gpu.report gpu-check.jsonl` compares
them with the planner's predictions and writes this page. The models are made on the card from their configuration, with random
weights and rows.

| part | what is measured |
|---|---|
| attention | kernels; unseen lengths with cuDNN's attention; variable-length attention against the dense mask; leaks between packed rows |
| planned | peaks of memory and time of a step for 20 runs: 1B, 3B, 8B and Mixtral of 4 layers; lora, qlora, full |
| speed | an 8B lora by our trainer and by a plain TRL script, then one change at a time |
| loading | what the card and the host hold while a model loads |
| learning | qlora with float32 and with bfloat16 adapters |
| offload | DeepSpeed's CPU optimizer without nvcc; host memory of pinned buffers |
| lifecycle | the real entry process: SIGTERM, checkpoint, resume, losses |

The machine needs a driver, Python 3.12, PyTorch for CUDA 13 and the usual packages of a training image (numpy, safetensors, pyarrow).
These wheels are carried to it (`python -m tests.gpu.wheels FOLDER` where there is a network, then
`pip install --no-index --no-deps FOLDER/*.whl`):
"""
NEVER = """
## Results

The check has not run on a GPU yet, so there are no measurements. Its lines run on the CPU with every `make test`, on the smallest sizes.
"""


def page(records: Sequence[Record], wheels: Sequence[Record]) -> str:
    """Return the page."""
    parts = [HEAD, *wheel_table(wheels)]
    return "\n".join([*parts, *(results(records) if records else [NEVER])]).rstrip() + "\n"


def wheel_table(wheels: Sequence[Record]) -> list[str]:
    """Return the wheels with their sizes."""
    rows = [f"| {one['name']} | {one['version']} | {one['megabytes']} MB |" for one in wheels]
    total = sum(one["megabytes"] for one in wheels)
    note = "DeepSpeed's is built from its source; bitsandbytes' is cut to its library for CUDA 13."
    return ["| package | version | size |", "|---|---|---|", *rows, f"| together | | {total:.0f} MB |", "", note]


def results(records: Sequence[Record]) -> list[str]:
    """Return the tables."""
    machine = next(one for one in records if one["part"] == "machine")
    lines = ["", "## Results", "", _machine(machine), "", "### Verdicts", "", *verdicts(records)]
    for name, table in (
        ("Memory and speed against the plan", planned_table(records, machine)),
        ("Speed, one change at a time", speed_table(records)),
        ("Loading", loading_table(records)),
        ("Attention, learning, offload, lifecycle", other_table(records)),
    ):
        lines += ["", f"### {name}", "", *table]
    return lines


def _machine(machine: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine.get('gpu', 'CPU')}, {machine.get('memoryGiB', '?')} GiB, CUDA {machine.get('cuda', 'absent')}; {versions}."


def of_part(records: Iterable[Record], part: str) -> list[Record]:
    """Return the findings of a part."""
    return [one for one in records if one["part"] == part and "name" in one]


def memory_errors(records: Sequence[Record]) -> dict[str, float]:
    """Return how far the predicted allocated memory is off, by scenario, as a share of what was measured."""
    return {
        one["name"]: memory_of(SCENARIOS[one["name"]]).allocated_gib / one["allocatedGiB"] - 1
        for one in of_part(records, "planned")
        if "allocatedGiB" in one
    }


def too_small(records: Sequence[Record]) -> list[str]:
    """Return the scenarios that took more of the card than the plan with its margin."""
    measured = [one for one in of_part(records, "planned") if "cardGiB" in one]
    return [one["name"] for one in measured if one["cardGiB"] > memory_of(SCENARIOS[one["name"]]).request_gib]


def verdicts(records: Sequence[Record]) -> list[str]:
    """Say what the check was to show, and whether it did."""
    errors = [abs(value) for value in memory_errors(records).values()]
    median = statistics.median(errors) if errors else None
    small, ratio, apart = too_small(records), against_plain(records), resumed_apart(records)
    return [
        _verdict(
            "median error of allocated memory at most 5 %", None if median is None else median <= 0.05, _percent(median)
        ),
        _verdict(
            "no run takes more than its plan with margin", not small if errors else None, ", ".join(small) or "none"
        ),
        _verdict(
            "at least 0.97 of a plain TRL script's speed", None if ratio is None else ratio >= 0.97, f"{ratio or 0:.2f}"
        ),
        _verdict(
            "a resumed run's losses are within 0.01",
            None if apart is None else apart <= 0.01,
            f"{apart or 0:.4f} apart",
        ),
        *(f"* {one['part']}: {one['ended']}" for one in records if one.get("ended", "done") != "done"),
    ]


def _verdict(claim: str, holds: bool | None, figure: str) -> str:
    if holds is None:
        return f"* {claim}: not measured"
    return f"* {claim}: {'yes' if holds else '**no**'} ({figure})"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def against_plain(records: Sequence[Record]) -> float | None:
    """Return the median ratio of our speed to the plain script's, which ran between our two runs."""
    by_scenario: dict[str, dict[str, float]] = {}
    for one in of_part(records, "speed"):
        if "tokensPerSecond" in one:
            by_scenario.setdefault(one["scenario"], {})[one["variant"]] = one["tokensPerSecond"]
    ratios = [
        statistics.mean(found[name] for name in ("ours", "ours, again") if name in found) / found["plain TRL"]
        for found in by_scenario.values()
        if {"ours", "plain TRL"} <= set(found)
    ]
    return statistics.median(ratios) if ratios else None


def resumed_apart(records: Sequence[Record]) -> float | None:
    """Return the largest difference between the losses of the resumed and the whole run."""
    found = [one for one in of_part(records, "lifecycle") if "wholeLosses" in one]
    if not found:
        return None
    return max(abs(one - other) for one, other in zip(found[0]["wholeLosses"], found[0]["resumedLosses"], strict=True))


def planned_table(records: Sequence[Record], machine: Record) -> list[str]:
    """Return measured and predicted memory and speed, run by run."""
    lines = [
        "| run | allocated GiB | predicted | card GiB | with margin | tokens/s | predicted | MFU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in of_part(records, "planned"):
        if "allocatedGiB" not in one:
            lines.append(f"| {one['name']} | {one.get('error', 'not on a GPU')} | | | | | | |")
            continue
        scenario = SCENARIOS[one["name"]]
        need, speed = memory_of(scenario), speed_prediction(scenario, machine["gpu"], one["tokens"])
        pace = (
            ("", "")
            if speed is None
            else (f"{speed.tokens_per_second:,.0f}", _percent(speed.utilisation(one["tokensPerSecond"])))
        )
        lines.append(
            f"| {one['name']} | {one['allocatedGiB']:.2f} | {need.allocated_gib:.2f} | {one['cardGiB']:.2f} | "
            f"{need.request_gib:.2f} | {one['tokensPerSecond']:,.0f} | {pace[0]} | {pace[1]} |"
        )
    return lines


def speed_table(records: Sequence[Record]) -> list[str]:
    """Return the speed of each variant, and its ratio to ours."""
    lines, ours = ["| rows | variant | tokens/s | against ours |", "|---|---|---|---|"], 0.0
    for one in of_part(records, "speed"):
        speed = one.get("tokensPerSecond")
        ours = speed if one["variant"] == "ours" and speed else ours
        figures = (
            f"{speed:,.0f} | {speed / ours:.2f}" if speed and ours else f"{one.get('absent') or one.get('error')} | "
        )
        lines.append(f"| {one['scenario']} | {one['variant']} | {figures} |")
    return lines


def loading_table(records: Sequence[Record]) -> list[str]:
    """Return what was held while loading, against the plan."""
    lines = ["| model | peak GiB | predicted | host GiB | seconds |", "|---|---|---|---|---|"]
    for one in of_part(records, "loading"):
        held, planned = one.get("allocatedGiB"), loading_gib(SCENARIOS[one["name"]])
        shown = "not on a GPU" if held is None else f"{held:.2f}"
        lines.append(f"| {one['name']} | {shown} | {planned:.2f} | {one['hostPeakGiB']} | {one['loadSeconds']} |")
    return lines


def other_table(records: Sequence[Record]) -> list[str]:
    """Return the rest as it was found."""
    lines = ["| part | what | found |", "|---|---|---|"]
    for part in ("attention", "learning", "offload", "lifecycle"):
        for one in of_part(records, part):
            found = {
                key: value for key, value in one.items() if key not in ("part", "name", "wholeLosses", "resumedLosses")
            }
            shown = "; ".join(
                f"{key} {', '.join(map(str, value)) if isinstance(value, list) else value}"
                for key, value in found.items()
            )
            lines.append(f"| {part} | {one['name']} | {shown.replace('|', '/')} |")
    return lines


def kept() -> list[Record]:
    """Return the records that are kept; none where the check has never run on a GPU."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def main(arguments: list[str]) -> int:
    """Write the page; refuses records that are not of a GPU."""
    if arguments:
        first = json.loads(Path(arguments[0]).read_text().partition("\n")[0])
        if first.get("device") != "cuda":
            print(f"{arguments[0]} was not measured on a GPU, so the page does not show it", file=sys.stderr)
            return 2
        shutil.copyfile(arguments[0], RESULTS)
    PAGE.write_text(page(kept(), json.loads(WHEELS.read_text())))
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
