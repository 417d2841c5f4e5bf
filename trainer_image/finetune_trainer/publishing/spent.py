"""GPU-hours and dollars of a job until its result is published, as card and manifest say them. Called by train, artifacts and card.

The operator counts from the moment a Pod is scheduled until it has ended. The trainer sees less: its own first process starts when the
image is there, and what is being published cannot say how long that takes.
"""

from dataclasses import dataclass
from decimal import Decimal

from finetune_contract import RunConfig, cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a job has spent when its card is written. On a CPU there are no GPU-hours."""

    attempt_seconds: float
    """Since the attempt's first process started."""
    gpus: int
    gpu_hours: str | None = None
    """Of all attempts."""
    attempt_gpu_hours: str | None = None
    earlier_gpu_hours: str | None = None
    cost_usd: str | None = None
    """Of all attempts; None: no pool of theirs has a price."""
    price_per_gpu_hour_usd: str | None = None
    """Of this attempt's pool."""


def spent(run: RunConfig, seconds: float, device: str) -> Spent | None:
    """Return what the job has spent once this attempt has run for so long; None where the operator told nothing of the others."""
    so_far, rounded = run.cost_so_far, round(seconds, 1)
    if so_far is None:
        return None
    if device == "cpu":
        return Spent(attempt_seconds=rounded, gpus=0)
    own, price = cost.gpu_seconds(run.layout.world_size, seconds), so_far.price_per_gpu_hour_usd
    usd = Decimal(so_far.cost_usd) + own * Decimal(price or 0) / 3600
    return Spent(
        attempt_seconds=rounded,
        gpus=run.layout.world_size,
        gpu_hours=cost.gpu_hours(so_far.gpu_seconds + own),
        attempt_gpu_hours=cost.gpu_hours(own),
        earlier_gpu_hours=cost.gpu_hours(so_far.gpu_seconds),
        cost_usd=cost.amount(usd) if usd or price else None,
        price_per_gpu_hour_usd=price,
    )


def spent_row(found: Spent | None) -> list[tuple[str, str]]:
    """Return the card's row: what was spent, and what is not in it. None where nothing is known."""
    return [] if found is None else [("spent before publishing", _in_words(found))]


def _in_words(found: Spent) -> str:
    if not found.gpus:
        return "no GPU-hours: the run used a CPU"
    parts = f" ({found.attempt_gpu_hours} in this attempt, {found.earlier_gpu_hours} in earlier ones)"
    hours = f"{found.gpu_hours} GPU-hours{'' if found.gpu_hours == found.attempt_gpu_hours else parts}"
    left_out = (
        "the start of this attempt's Pods and publishing are not counted; the job's `status.cost` has the final figure"
    )
    return f"{hours}{_dollars(found)}; {left_out}"


def _dollars(found: Spent) -> str:
    if found.cost_usd is None:
        return ""
    if found.price_per_gpu_hour_usd is None:
        return f", {found.cost_usd} USD (all in earlier attempts: the pool of this one has no price)"
    return f", {found.cost_usd} USD (this attempt at {found.price_per_gpu_hour_usd} USD per GPU-hour)"
