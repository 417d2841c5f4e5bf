"""100,000 rows of jsonl through preflight's preparation: seconds and peak memory.

Prints one JSON line. The rows are conversations of one to three turns, about 120 tokens each. The tokenizer is a byte-level
BPE whose template has no generation markers, so every answer is found by rendering: the slow path. Bounds: 60 s, 1 GiB.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = 100_000
WORDS = ("hello", "how", "are", "you", "fine", "thanks", "red", "green", "blue", "the", "dog")


def write_rows(file: Path, count: int) -> None:
    """Write conversations of different lengths."""
    rng = random.Random(0)
    with file.open("w") as out:
        for _ in range(count):
            turns = [
                {"role": role, "content": " ".join(rng.choices(WORDS, k=rng.randint(2, longest)))}
                for _ in range(rng.randint(1, 3))
                for role, longest in (("user", 25), ("assistant", 50))
            ]
            out.write(json.dumps({"messages": turns}) + "\n")


def measured(folder: Path, rows: int) -> dict[str, float]:
    """Prepare the rows in this process and return what it took."""
    from finetune_trainer.preflight.__main__ import without_torch  # noqa: PLC0415 - torch must not be loaded

    without_torch()
    from tests.trainer.data_inputs import a_request, loaded, model, prepared_rows  # noqa: PLC0415

    words = loaded(model(folder / "model"))
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    used = sum(os.times()[:2])
    start = time.perf_counter()
    prepared = prepared_rows(a_request(folder / "rows.jsonl"), words, folder / "work")
    seconds = time.perf_counter() - start
    return {
        "rows": rows,
        "trainedRows": prepared.train.rows,
        "tokens": prepared.train.tokens,
        "seconds": round(seconds, 1),
        "cpuSeconds": round(sum(os.times()[:2]) - used, 1),
        "peakMiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "importedMiB": round(imported),
    }


def main(arguments: list[str]) -> int:
    """Measure in a fresh process; with a folder as argument, be that process."""
    if arguments:
        os.environ["FINETUNE_ALLOW_FILE"] = "1"
        print(json.dumps(measured(Path(arguments[0]), ROWS)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "rows.jsonl", ROWS)
        return subprocess.run(
            [sys.executable, "-m", "tests.bench.bench_data", folder], cwd=Path(__file__).parents[2], check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
