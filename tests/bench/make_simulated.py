"""Simulate drawn cases and write them as a fixture: `python tests/bench/make_simulated.py --seed 1 --cases 120 --out FILE`.

Resumable: cases that the file holds already are left out. One process for all: loading the libraries takes longer
than a case. Nothing here is measured: see docs/vram-model.md.
"""

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", DS_ACCELERATOR="cpu")
sys.path.insert(0, str(Path(__file__).parents[2]))

from finetune_contract import RunConfig
from finetune_trainer.simulate.command import simulated
from finetune_trainer.simulate.ledger import Peak
from finetune_trainer.simulate.loading import load_peak
from transformers import AutoConfig

from tests.simulated.cases import Case, draw, draw_loading, from_record, run_of, to_record


def result(case: Case, simulate: Callable[[RunConfig, Any], Peak]) -> dict[str, Any]:
    """Simulate one case here."""
    values = case.config()
    peak = simulate(run_of(case), AutoConfig.for_model(values.pop("model_type"), **values))
    return {"case": to_record(case), "peakBytes": peak.total, "parts": peak.parts, "operation": peak.operation}


def result_or_error(case: Case, simulate: Callable[[RunConfig, Any], Peak]) -> dict[str, Any]:
    """Simulate one case; an error comes back as text."""
    try:
        return result(case, simulate)
    except Exception:  # noqa: BLE001 - one bad case should not end a long run
        return {"case": to_record(case), "error": traceback.format_exc()}


def main() -> int:
    """Simulate what is missing from the file; returns how many cases failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=120)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--loading", action="store_true", help="the loading of models, not a training step")
    parser.add_argument("--minutes", type=float, default=30, help="stop after so long; the next call goes on")
    given = parser.parse_args()
    done = (
        [from_record(json.loads(line)["case"]) for line in given.out.read_text().splitlines()]
        if given.out.exists()
        else []
    )
    started, failed = time.monotonic(), 0
    drawn = (draw_loading if given.loading else draw)(seed=given.seed, count=given.cases)
    for number, case in enumerate(drawn, start=1):
        if case in done:
            continue
        if time.monotonic() - started > 60 * given.minutes:
            break
        found = result_or_error(case, load_peak if given.loading else simulated)
        failed += "error" in found
        if "error" in found:
            print(f"{number}/{len(drawn)} {case}\n{found['error']}", flush=True)
            continue
        with given.out.open("a") as out:
            out.write(json.dumps(found, separators=(",", ":")) + "\n")
        print(
            f"{number}/{len(drawn)} {found['peakBytes'] / 2**30:8.3f} GiB {time.monotonic() - started:6.0f} s {case}",
            flush=True,
        )
    return failed


if __name__ == "__main__":
    sys.exit(min(1, main()))
