"""GPU-seconds to dollars."""

import pytest
from finetune_contract.cost import cost_usd, gpu_hours, gpu_seconds


def test_eight_gpus_for_an_hour():
    """Held GPU-seconds times the price is the cost."""
    held = gpu_seconds(8, 3600)

    assert (held, gpu_hours(held), cost_usd(held, "2.50")) == (28_800, "8.00", "20.00")


@pytest.mark.parametrize(
    ("held", "price", "cost"),
    [
        (0, "2.50", "0.00"),
        (1, "1.00", "0.0003"),
        (30, "1.00", "0.0083"),
        (2700, "1.00", "0.75"),
        (3599, "1.00", "0.9997"),
        (3600, "1.00", "1.00"),
        (2706, "2.50", "1.88"),
        (10**9, "6.88", "1911111.11"),
    ],
)
def test_small_amounts_keep_four_decimals(held: int, price: str, cost: str):
    """Cents are enough from one dollar on; below, they would hide what a try-out costs."""
    assert cost == cost_usd(held, price)


def test_gpu_hours_times_the_price_are_the_cost():
    """A reader who multiplies what is printed gets what is printed, to the cent: 1.13 hours at $5.50 were $6.24."""
    held = gpu_seconds(4, 1021)

    assert (gpu_hours(held), cost_usd(held, "5.50")) == ("1.1344", "6.24")


def test_fractions_of_a_second_are_rounded_once():
    """Rounding happens on GPU-seconds, so that cost and GPU-hours rest on the same whole number."""
    assert (gpu_seconds(1, 10.4), gpu_seconds(4, 2.7)) == (10, 11)
