"""How far the plans' memory and speed are from published readings, per generation of GPUs: `python -m tests.bench.generations`.

Prints the table of docs/planning.md. Speed: rows of the Hugging Face stack. Memory: the readings that the constants were fitted on and
those of other stacks. What has few rows has few: no mean is taken over generations.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable

from tests.bench.throughput_anchors import ANCHORS
from tests.bench.throughput_rows import rows
from tests.bench.vram_rows import others, readings

GENERATIONS = (
    ("H100, H200, B200", ("H100", "H200", "B200")),
    ("A100", ("A100",)),
    ("Ampere and Ada cards (RTX, A10G, A6000, L40S)", ("RTX", "A10G", "A6000", "A5000", "L40S")),
)
"""Name, and what the names of its GPUs contain."""
UNKNOWN = "not said"


def generation(gpu: str | None) -> str:
    """Return the generation of a GPU as a reading names it."""
    return next((name for name, parts in GENERATIONS if gpu and any(part in gpu for part in parts)), UNKNOWN)


def speed_errors() -> dict[str, list[float]]:
    """Return the errors of tokens per second by generation."""
    return _grouped((generation(row.gpu), row.error) for row in rows("hf"))


def anchor_errors() -> dict[str, list[float]]:
    """Return those of runs that had no part in the fit; some of them are faster stacks than ours."""
    return _grouped((generation(anchor.row.gpu), anchor.row.error) for anchor in ANCHORS)


def memory_errors() -> dict[str, list[float]]:
    """Return the errors of memory by generation."""
    found = (*readings(), *others())
    return _grouped((generation(one.raw.get("gpu")), one.of(one.found) / one.measured_gib - 1) for one in found)


def _grouped(pairs: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for name, error in pairs:
        groups[name].append(error)
    return groups


def table() -> list[str]:
    """Return the rows in markdown: how many readings, their median error, and whether plans are too high or too low."""
    columns = (memory_errors(), speed_errors(), anchor_errors())
    heads = ["| GPUs | memory | speed | speed, not fitted |", "|---|---|---|---|"]
    names = [*(name for name, _ in GENERATIONS), UNKNOWN]
    return heads + [
        f"| {name} | {' | '.join(_summary(errors.get(name, [])) for errors in columns)} |"
        for name in names
        if any(name in errors for errors in columns)
    ]


def _summary(errors: list[float]) -> str:
    if not errors:
        return "none"
    off, bias = statistics.median(map(abs, errors)), statistics.median(errors)
    return f"{len(errors)}: {off:.0%}, bias {bias:+.0%}".replace("%", " %")


if __name__ == "__main__":
    print("\n".join(table()))
