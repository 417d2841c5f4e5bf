"""Print how well planning.throughput predicts published readings: `python -m tests.bench.bench_throughput`.

Only rows of the Hugging Face stack (transformers, PEFT, bitsandbytes, FSDP or DeepSpeed) are what our trainer is; the
others are printed apart. Vendor and pre-training rows use fp8, compiled graphs or tensor parallelism: not comparable.
"""

import statistics
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from finetune_operator.planning.report import COST_RANGE

from tests.bench.throughput_anchors import ANCHORS
from tests.bench.throughput_rows import PAIRS, Row, covered, left_out_error, median_error, ratios, rows, runs_like_high

WITHIN = 0.2


def main() -> None:
    found = rows("hf")
    scores(found)
    methods_compared(found)
    ranges(found)
    anchors()


def scores(found: list[Row]) -> None:
    """Print the errors in all, per source and per method; per source also with constants refitted without it."""
    print(f"{'':34}{'rows':>6}{'median error':>14}{'p90':>7}{'bias':>7}{'source left out':>17}")
    _print("hugging face stack", found, left_out=True)
    for name in ("source", "method"):
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in found:
            groups[getattr(row, name)].append(row)
        for group, members in sorted(groups.items()):
            _print(f"  {name} {group}", members, left_out=name == "source")
    _print("pytorch stack (torchtune)", rows("pytorch"))


def _print(name: str, found: list[Row], *, left_out: bool = False) -> None:
    errors = sorted(abs(row.error) for row in found)
    bias = statistics.median(row.error for row in found)
    without = f"{left_out_error(found):17.1%}" if left_out else ""
    print(
        f"{name:34}{len(found):6}{median_error(found):14.1%}{errors[int(0.9 * len(errors))]:7.0%}{bias:+7.0%}{without}"
    )


def methods_compared(found: list[Row]) -> None:
    """Print how well the ratio of two methods on the same GPU is predicted, and where it is not."""
    print(f"\n{'one method over another':34}{'pairs':>6}{'median error':>14}{'within 20 %':>13}")
    compared = ratios(found)
    for pair in PAIRS:
        errors = [abs(one.error) for one in compared if one.methods == pair]
        inside = sum(error <= WITHIN for error in errors) / len(errors)
        print(f"  {' / '.join(pair):32}{len(errors):6}{statistics.median(errors):14.1%}{inside:13.0%}")
    ours = [abs(one.error) for one in compared if "qlora-gptq" not in one.methods]
    inside = sum(error <= WITHIN for error in ours) / len(ours)
    print(f"  {'what our trainer does (no GPTQ)':32}{len(ours):6}{statistics.median(ours):14.1%}{inside:13.0%}")
    for one in sorted(compared, key=lambda one: -abs(one.error)):
        if abs(one.error) > WITHIN:
            source, model, length, *_rest = one.setting
            names = " / ".join(one.methods)
            print(
                f"    {names} {source} {model} {length} tokens: measured {one.measured:.2f}, predicted {one.predicted:.2f}"
            )


def ranges(found: list[Row]) -> None:
    """Print which share of the readings lies in the range that a plan would show."""
    print("\nmeasured time within the range shown")
    low, high = COST_RANGE["high"]
    inside = [row for row in found if runs_like_high(row)]
    print(f"  high ({low:g} to {high:g} times)           {len(inside):6}{covered(inside, low, high):14.1%}")
    low, high = COST_RANGE["medium"]
    rest = [row for row in found if not runs_like_high(row) and not row.work.architecture.num_experts]
    print(f"  medium ({low:g} to {high:g} times)         {len(rest):6}{covered(rest, low, high):14.1%}")
    low, high = COST_RANGE["low"]
    experts = [row for row in found if row.work.architecture.num_experts]
    print(f"  low ({low:g} to {high:g} times)              {len(experts):6}{covered(experts, low, high):14.1%}")


def anchors() -> None:
    """Print runs that took no part in the fit."""
    print(f"\n{'runs that had no part in the fit':62}{'measured':>9}{'predicted':>10}{'error':>8}")
    for anchor in ANCHORS:
        row = anchor.row
        print(f"  {anchor.what:60}{row.measured:9.0f}{row.predicted:10.0f}{row.error:+8.0%}")


if __name__ == "__main__":
    main()
