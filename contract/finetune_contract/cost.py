"""GPU-seconds to GPU-hours to dollars: the same functions for the plan's estimate, for status.cost and for the model card."""

from decimal import ROUND_HALF_EVEN, Decimal

CENT = Decimal("0.01")
SMALL = Decimal("0.0001")
"""Amounts under one keep four decimals: a first try-out costs fractions of a cent, and 0.00 would tell nothing."""


def gpu_seconds(gpus: int, seconds: float) -> int:
    """Return GPUs times the seconds they are held, rounded to whole GPU-seconds."""
    return round(gpus * seconds)


def gpu_hours(held_gpu_seconds: int) -> str:
    """Return GPU-hours as a decimal string with up to four decimals: times the price they are the cost, to the cent."""
    return _text(Decimal(held_gpu_seconds) / 3600, SMALL)


def cost_usd(held_gpu_seconds: int, price_per_gpu_hour_usd: str) -> str:
    """Return what so many GPU-seconds cost at a price per GPU-hour, as a decimal string of US dollars."""
    return amount(Decimal(held_gpu_seconds) * Decimal(price_per_gpu_hour_usd) / 3600)


def amount(value: Decimal) -> str:
    """Return a decimal string with two decimals, or with up to four where the value is under one."""
    return _text(value, CENT if value >= 1 else SMALL)


def _text(value: Decimal, unit: Decimal) -> str:
    whole, _, decimals = str(value.quantize(unit, ROUND_HALF_EVEN)).partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"
