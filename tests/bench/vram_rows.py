"""The published memory readings as scenarios, and how far predictions are from them. Used by tests and bench_vram."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from finetune_operator.planning.memory.constants import DEFAULT, Constants
from finetune_operator.planning.memory.estimate import MemoryEstimate, estimate
from finetune_operator.planning.memory.scenario import LossKernel, MemoryScenario
from finetune_operator.planning.memory.scenario_lines import scenario_of

SOURCES = {"tt": "torchtune", "lg": "litgpt", "qw": "Qwen README", "fms": "IBM fms-acceleration"}
OTHER_SOURCES = {
    "sw": "ms-swift", "fq": "fsdp_qlora", "us": "Unsloth's stock HF", "pd": "PEFT guides", "pe": "PEFT comparison",
    "ll": "LongLoRA",
}  # fmt: skip
"""Of tests/data/other-sources.jsonl: stacks that no constant is fitted on. Settings that a page does not say are assumed,
and `source` says which."""

OTHERS = Path(__file__).parents[1] / "data" / "other-sources.jsonl"
CLASSES = (16, 24, 40, 48, 80, 141, 180)
"""Cards by what they are sold as; a job needs the smallest one that is large enough."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One published measurement."""

    source: str
    raw: dict[str, Any]
    scenario: MemoryScenario
    found: MemoryEstimate
    """Our estimate with the default constants."""

    @property
    def measured_gib(self) -> float:
        """What was published."""
        return float(self.raw["measuredGiB"])

    def of(self, found: MemoryEstimate) -> float:
        """Return the figure of an estimate that the reading is about."""
        match self.raw["reading"]:
            case "allocated":
                return found.allocated_gib
            case "reserved":
                return found.reserved_gib
            case _:
                return found.card_gib

    def on_card(self, gib: float) -> float:
        """Turn a figure of this reading into one of the whole card: context is the same on both sides."""
        return gib + (0.0 if self.raw["reading"] == "card" else self.found.context_gib)


@lru_cache(maxsize=1)
def readings() -> tuple[Reading, ...]:
    """Return all readings."""
    return _read(files("finetune_operator.planning").joinpath("data/readings.jsonl").read_text(), SOURCES)


@lru_cache(maxsize=1)
def others() -> tuple[Reading, ...]:
    """Return the readings of other stacks."""
    return _read(OTHERS.read_text(), OTHER_SOURCES)


def _read(text: str, sources: Mapping[str, str]) -> tuple[Reading, ...]:
    parsed = ((json.loads(line), scenario_of(line)) for line in text.splitlines())
    return tuple(
        Reading(sources[name.partition("-")[0]], raw, scenario, estimate(scenario)) for raw, (name, scenario) in parsed
    )


@dataclass(frozen=True, slots=True)
class Score:
    """How far predictions are from measurements."""

    rows: int
    median: float
    """Median of the absolute relative error."""
    ninth_decile: float
    bias: float
    by_source: dict[str, float]
    """Median per source."""

    @property
    def balanced(self) -> float:
        """Mean over the sources of their medians: every stack counts alike."""
        return statistics.mean(self.by_source.values())


def score(pairs: Iterable[tuple[Reading, float]]) -> Score:
    """Score predicted figures."""
    errors = [(reading.source, predicted / reading.measured_gib - 1) for reading, predicted in pairs]
    by_source: dict[str, list[float]] = defaultdict(list)
    for source, error in errors:
        by_source[source].append(abs(error))
    absolute = sorted(abs(error) for _, error in errors)
    return Score(
        rows=len(errors),
        median=statistics.median(absolute),
        ninth_decile=absolute[int(0.9 * len(absolute))],
        bias=statistics.median(error for _, error in errors),
        by_source={source: statistics.median(values) for source, values in sorted(by_source.items())},
    )


def ours(constants: Constants = DEFAULT, only: Callable[[Reading], bool] = lambda _: True) -> Score:
    """Score our model."""
    chosen = [reading for reading in readings() if only(reading)]
    return score((reading, reading.of(estimate(reading.scenario, constants))) for reading in chosen)


def card(gib: float) -> int:
    """Return the class of card that holds so much; one past the last where none does."""
    return next((index for index, size in enumerate(CLASSES) if gib <= size), len(CLASSES))


@dataclass(frozen=True, slots=True)
class Cards:
    """Which card was chosen, as shares of all readings."""

    right: float
    too_small: float
    too_big: float


def cards(
    predicted: Callable[[Reading], float | None], *, margin: bool = False, among: Iterable[Reading] | None = None
) -> Cards:
    """Compare the card that a prediction asks for with the one that the measurement needs."""
    counts, rows = [0, 0, 0], 0
    for reading in readings() if among is None else among:
        figure = predicted(reading)
        if figure is None:
            continue
        rows += 1
        need = card(reading.on_card(reading.measured_gib))
        ask = card(reading.on_card(figure) * (reading.found.margin if margin else 1.0))
        counts[0 if ask == need else 1 if ask < need else 2] += 1
    return Cards(*(count / max(1, rows) for count in counts))


GRID: dict[str, tuple[float, ...]] = {
    "fsdp_adapter_working_set": (1.0, 1.5, 1.7, 1.8, 1.9, 2.0, 2.2),
    "compiled_activations": (0.6, 0.7, 0.75, 0.8, 0.9),
    "slack": (1.05, 1.1, 1.15, 1.2, 1.25, 1.3),
    "context_gib": (0.6, 0.9, 1.1, 1.3, 1.5, 1.7, 2.0),
    "communication_gib": (1.0, 2.0, 2.5, 3.0, 3.5),
    "deepspeed_gib": (0.0, 0.2, 0.4, 0.6, 0.9, 1.2),
    "fabric_outputs": (1.0, 1.5, 2.0, 2.5, 3.0),
}
"""Values that a refit may choose."""

FITTED_ROWS = 15
FACTORS = (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.4)
KERNELS: tuple[LossKernel, ...] = ("stock", "bf16", "in-place", "chunked", "litgpt", "liger")


def refitted(without: str, rounds: int = 1) -> Constants:
    """Refit the free constants on all sources but one, by coordinate search from what derivations say."""
    chosen = [reading for source in SOURCES.values() if source != without for reading in _thinned(source)]
    best = _plain()
    lowest = _loss(best, chosen)
    for _ in range(rounds):
        for candidates in _coordinates():
            for change in candidates:
                tried = change(best)
                if (loss := _loss(tried, chosen)) < lowest - 1e-6:
                    best, lowest = tried, loss
    return best


def _thinned(source: str) -> list[Reading]:
    """Take at most so many readings of a source, evenly: all of them teach no more, and the test must be quick."""
    found = [reading for reading in readings() if reading.source == source]
    return found[:: max(1, len(found) // FITTED_ROWS)]


def _plain() -> Constants:
    """Start from theory, not from what all readings together taught: context and NCCL by IBM's floors."""
    return replace(DEFAULT, context_gib=0.9, compiled_activations=0.75, fsdp_adapter_working_set=2.0, deepspeed_gib=0.2)


def _coordinates() -> Iterable[list[Callable[[Constants], Constants]]]:
    for name, values in GRID.items():
        yield [lambda constants, name=name, value=value: replace(constants, **{name: value}) for value in values]
    for kernel in KERNELS:
        yield [lambda constants, kernel=kernel, factor=factor: _scaled(constants, kernel, factor) for factor in FACTORS]


def _scaled(constants: Constants, kernel: LossKernel, factor: float) -> Constants:
    changed = {**constants.logits_bytes, kernel: DEFAULT.logits_bytes[kernel] * factor}
    return replace(constants, logits_bytes=changed)


def _loss(constants: Constants, chosen: list[Reading]) -> float:
    """Balance the sources; the mean, clipped, breaks ties that a median leaves."""
    by_source: dict[str, list[float]] = defaultdict(list)
    for reading in chosen:
        predicted = reading.of(estimate(reading.scenario, constants))
        by_source[reading.source].append(abs(math.log(predicted / reading.measured_gib)))
    return statistics.mean(
        statistics.median(values) + 0.3 * statistics.mean(min(value, 0.4) for value in values)
        for values in by_source.values()
    )
