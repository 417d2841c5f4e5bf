"""Accuracy, F1 and confusion of labels. Pure. Called by results."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Codes = np.ndarray[Any, np.dtype[np.int64]]


def codes(labels: Sequence[str], values: Sequence[str]) -> Codes:
    """Return the number of each value among the labels."""
    numbers = {label: number for number, label in enumerate(labels)}
    return np.array([numbers[value] for value in values], dtype=np.int64)


def confusion(found: Codes, wanted: Codes, labels: int) -> Any:
    """Return how often each wanted label (lines) was answered with each label (columns)."""
    return np.bincount(wanted * labels + found, minlength=labels * labels).reshape(labels, labels)


def macro_f1(table: Any) -> float:
    """Return the mean F1 of the labels that occur, in the data or in the answers."""
    right, wanted, found = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    occurs = (wanted + found) > 0
    return float(np.mean(2 * right[occurs] / (wanted + found)[occurs])) if occurs.any() else 0.0
