"""Print how well planning.throughput predicts published readings: `python tests/bench/bench_throughput.py`.

Only rows of the Hugging Face stack (transformers, PEFT, bitsandbytes, FSDP or DeepSpeed) are what our trainer is; the
others are printed apart. Vendor and pre-training rows use fp8, compiled graphs or tensor parallelism: not comparable.
"""

import statistics
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.throughput_rows import Row, median_error, ratio_errors, rows


def main() -> None:
    print(f"{'':34}{'rows':>6}{'median error':>14}{'p90':>7}{'bias':>7}")
    hugging_face = rows("hf")
    _print("hugging face stack", hugging_face)
    for name in ("source", "method"):
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in hugging_face:
            groups[getattr(row, name)].append(row)
        for group, members in sorted(groups.items()):
            _print(f"  {name} {group}", members)
    _print("pytorch stack (torchtune)", rows("pytorch"))
    print("\nspeed of one method over another in the same setting")
    for (one, other), errors in ratio_errors(hugging_face).items():
        median = statistics.median(abs(error) for error in errors)
        print(f"  {one + ' / ' + other:32}{len(errors):6}{median:14.1%}")


def _print(name: str, found: list[Row]) -> None:
    errors = sorted(abs(row.error) for row in found)
    bias = statistics.median(row.error for row in found)
    print(f"{name:34}{len(found):6}{median_error(found):14.1%}{errors[int(0.9 * len(errors))]:7.0%}{bias:+7.0%}")


if __name__ == "__main__":
    main()
