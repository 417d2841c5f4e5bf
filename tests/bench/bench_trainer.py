"""Our trainer against a plain TRL script with the same settings: `python -m tests.bench.bench_trainer [PAIRS]`.

Pairs of real processes, interleaved so that a busy machine slows both, the order changing from pair to pair. Both train on the
same rows in the same steps: the loss of every step must be equal, or nothing is printed. Prints the median ratio (ours /
plain) and its spread of steps per second, peak RSS and time to the first step, and the import time of the contract. Targets:
at least 0.97, at most 1.05, at most 1.1, under 50 ms. The ratios per CPU second say the same with less of other processes'
load in them: on a machine that others use too, the wall clock's spread is theirs.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path

from finetune_contract import parse_outcome
from finetune_contract.wire import dumps
from finetune_trainer.training.row_order import row_order

from tests.trainer.tiny import a_run, conversations, tiny_model

ROOT = Path(__file__).parents[2]
PAIRS = 8
STEPS = 120
SHAPE = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "max_position_embeddings": 256}
"""Large enough that a step is arithmetic, not bookkeeping: some 80 ms."""

SETTINGS = {"max_steps": STEPS, "baseline": False, "prompts": (), "fraction": 0.0, "max_examples": 0}
"""No evaluation, as the plain script has none; the rest of a_run is what plain_trl spells out."""

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figures:
    """One run, between the ends of its first and last step; and how long the first one took to come."""

    steps_per_second: float
    steps_per_cpu_second: float
    peak_rss_gib: float
    """Of all processes of the run together."""
    first_step_seconds: float
    first_step_cpu_seconds: float


TARGETS = {"steps_per_second": ">= 0.97", "peak_rss_gib": "<= 1.05", "first_step_seconds": "<= 1.1"}


@dataclass(frozen=True)
class Given:
    """What both run on."""

    model: Path
    rows: Path
    ordered: Path
    """The same rows as the steps see them."""


def given(scratch: Path) -> Given:
    """Make a model, and rows of different lengths without duplicates, which only our trainer would leave out."""
    rows, ordered = scratch / "train.jsonl", scratch / "ordered.jsonl"
    lines = list(dict.fromkeys(conversations(rows, rows=600, longest=30).read_text().splitlines()))
    rows.write_text("\n".join(lines) + "\n")
    order = row_order(len(lines), steps=STEPS, global_batch_size=4, seed=7)
    ordered.write_text("\n".join(lines[row] for row in order) + "\n")
    return Given(tiny_model(scratch / "model", "llama", **SHAPE), rows, ordered)


def plain(on: Given, folder: Path) -> tuple[Figures, list[float]]:
    """Run the script that a practitioner would write."""
    arguments = [str(time.time()), str(on.model), str(on.ordered), str(folder / "plain"), str(STEPS)]
    command = [sys.executable, "-m", "tests.bench.plain_trl", *arguments]
    said = subprocess.run(
        command, env=_environment(folder), cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    figures, losses = (re.findall(f"^{word} (.*)$", said, re.MULTILINE)[0] for word in ("FIGURES", "LOSSES"))
    return Figures(**json.loads(figures)), json.loads(losses)


def ours(on: Given, folder: Path) -> tuple[Figures, list[float]]:
    """Run our container's command: entry process and worker."""
    run = a_run(folder, model=on.model, data=on.rows, **SETTINGS)
    (folder / "run.json").write_text(dumps(run))
    started, ends = time.time(), []
    command = [sys.executable, "-m", "finetune_trainer", "train"]
    with subprocess.Popen(
        command, env=_environment(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        line = ""
        for line in process.stdout:
            if re.search(rf'"phase":"training","step":(1|{STEPS}),', line) and len(ends) < 2:
                worker = int((folder / "workspace" / "run" / "heartbeat-0").read_text())
                ends.append((time.time(), _cpu_seconds(worker), _cpu_seconds(process.pid), _peak_gib(process.pid)))
    outcome = parse_outcome(line)
    assert outcome is not None, line
    assert outcome.outcome == "Succeeded", outcome.message
    assert outcome.training_seconds
    assert outcome.peak_memory_gib
    (first, cpu, entry, _), (_, last_cpu, last_entry, entry_gib) = ends
    return Figures(
        steps_per_second=(STEPS - 1) / outcome.training_seconds,
        steps_per_cpu_second=(STEPS - 1) / (last_cpu + last_entry - cpu - entry),
        peak_rss_gib=outcome.peak_memory_gib + entry_gib,
        first_step_seconds=first - started,
        first_step_cpu_seconds=cpu + entry,
    ), _losses(folder)


def _cpu_seconds(process: int) -> float:
    """User and system time of a process so far (proc(5), fields 14 and 15 of stat)."""
    behind_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(behind_name[11]) + int(behind_name[12])) / TICKS


def _peak_gib(process: int) -> float:
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found) / 2**20


def _losses(folder: Path) -> list[float]:
    (state,) = (folder / "out" / ".checkpoints").glob("attempt-*/trainer_state.json")
    return [entry["loss"] for entry in json.loads(state.read_text())["log_history"] if "loss" in entry]


def _environment(folder: Path) -> dict[str, str]:
    workspace = folder / "workspace"
    workspace.mkdir(parents=True, exist_ok=True)
    return os.environ | {
        "OMP_NUM_THREADS": "1", "FINETUNE_DEVICE": "cpu", "FINETUNE_ALLOW_FILE": "1",
        "FINETUNE_RUN_CONFIG": str(folder / "run.json"), "FINETUNE_WORKSPACE": str(workspace),
    }  # fmt: skip


def contract_import_milliseconds() -> float:
    """Return the median time that importing the contract adds to a bare interpreter."""

    def timed(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - started

    pairs = [(timed("import finetune_contract"), timed("pass")) for _ in range(11)]
    return 1000 * statistics.median(with_it - without for with_it, without in pairs)


def pair(number: int, on: Given, folder: Path) -> tuple[Figures, Figures]:
    """Run both; which comes first changes from pair to pair."""
    first, second = (plain, ours) if number % 2 else (ours, plain)
    folder.mkdir()
    found = {run: run(on, folder) for run in (first, second)}
    (mine, my_losses), (theirs, their_losses) = found[ours], found[plain]
    assert my_losses == their_losses, "the two did not learn the same: the figures mean nothing"
    return mine, theirs


def main(pairs: int) -> None:
    """Run the pairs and print the ratios."""
    print(f"import of finetune_contract: {contract_import_milliseconds():.0f} ms (target < 50)")
    measured = []
    with tempfile.TemporaryDirectory() as scratch:
        on = given(Path(scratch))
        for number in range(pairs):
            mine, theirs = pair(number, on, Path(scratch) / str(number))
            measured.append((mine, theirs))
            for name, figures in (("ours", mine), ("plain", theirs)):
                values = "  ".join(f"{field.name} {getattr(figures, field.name):.2f}" for field in fields(Figures))
                print(f"pair {number + 1} {name:<5} {values}", flush=True)
    for field in fields(Figures):
        ratios = sorted(getattr(mine, field.name) / getattr(theirs, field.name) for mine, theirs in measured)
        target = f", target {TARGETS[field.name]}" if field.name in TARGETS else ""
        spread = f"({ratios[0]:.3f} .. {ratios[-1]:.3f}, {pairs} pairs)"
        print(f"{field.name}: median ratio {statistics.median(ratios):.3f} {spread}{target}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
