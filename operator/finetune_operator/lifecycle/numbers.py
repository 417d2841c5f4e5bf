"""Floats of the trainer as decimal strings of the API. What is no number, or too large for the schema, is left out."""

import math

LARGEST = 999_999_999_999
"""The schema allows twelve digits."""


def decimal(value: float | None, places: int) -> str | None:
    """Return a decimal string, None for NaN and infinity."""
    if value is None or not math.isfinite(value) or abs(value) > LARGEST:
        return None
    return f"{value:.{places}f}"


def unsigned(value: float | None, places: int) -> str | None:
    """Return a decimal string of a value that cannot be negative."""
    return None if value is None else decimal(max(0.0, value), places)


def rate(value: float | None) -> str | None:
    """Return a learning rate, with an exponent where it is short: 2e-05."""
    return None if value is None or not math.isfinite(value) else f"{max(0.0, value):.4g}"
