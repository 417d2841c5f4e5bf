"""What a mean over rows says about rows that were not measured: a 95 % interval by bootstrap. Pure. Called by results."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from finetune_contract import Figure

RESAMPLES = 2000
"""The ends of the interval then move by less than a hundredth of its width from seed to seed (tried on 200 rows)."""

RULE_OF_THREE = 3.0
"""What n rows never showed happens in fewer than 3 of n rows, with 95 % confidence. Resampling equal rows would say never."""

MOST_ROWS_NEEDED = 100_000

Scores = np.ndarray[Any, np.dtype[np.float64]]
Picks = np.ndarray[Any, np.dtype[np.int64]]
Statistic = Callable[[Picks], float]
"""The figure of a sample of rows, by their numbers."""


def picks(rows: int, seed: int) -> Picks:
    """Return the samples, with replacement: one a line. The same for both models, so that differences are of pairs."""
    return np.random.default_rng(seed).integers(0, rows, size=(RESAMPLES, rows))


def figure(statistic: Statistic, samples: Picks, *, least: float) -> Figure:
    """Return a statistic of all rows with the ends of its interval, no further out than `least` and 1."""
    rows = samples.shape[1]
    value = statistic(np.arange(rows))
    drawn = np.array([statistic(sample) for sample in samples])
    low, high = np.percentile(drawn, [2.5, 97.5])
    if low == high:
        low, high = value - RULE_OF_THREE / rows, value + RULE_OF_THREE / rows
    return tuple(round(float(one), 4) for one in (value, max(least, low), min(1.0, high)))


def rows_needed(difference: Figure, rows: int) -> int:
    """Return about how many rows would tell that there is a difference of this size; 0 where these do, or none would."""
    value, low, high = difference
    if low > 0 or high < 0 or value == 0:
        return 0
    half = (high - low) / 2
    needed = math.ceil(rows * (half / abs(value)) ** 2)
    return max(rows + 1, needed) if needed <= MOST_ROWS_NEEDED else 0
