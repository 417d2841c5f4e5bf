"""status.plan as people read it: alternatives in words, figures that multiply out."""

import pytest

from tests.unit.planning.planning_builders import a_laptop, a_pool
from tests.unit.planning.test_planner import planned


def test_alternatives_say_how_states_are_spread():
    """Full fine-tuning of 8 billion parameters on one card is understood only with its offload."""
    others = planned("8b", a_pool("h100", maxNodes=1), method="lora", resources={"gpus": 1}).plan.alternatives

    assert [one.summary for one in others] == [
        "qlora on 1 x H100-80GB-HBM3 (pool h100)",
        "full on 1 x H100-80GB-HBM3 (ZeRO-2 with optimizer offload, pool h100)",
    ]


def test_the_longest_name_of_a_pool_has_room():
    """A DNS name of 253 characters is legal, and status has 256 for the summary."""
    run = planned("8b", a_pool("h" * 253, maxNodes=1), method="lora").plan

    assert {len(one.summary) for one in run.alternatives} == {256}
    assert all(one.summary.endswith("...") for one in run.alternatives)


def test_a_slow_run_has_a_speed():
    """Of 70 billion parameters a CPU trains less than ten tokens a second; tokens over speed is still the time."""
    pool = a_laptop(memoryGiB="64", node={"cpus": 8, "memoryGiB": 512, "ephemeralGiB": 900})
    run = planned("70b", pool, method="qlora").plan
    speed = float(run.estimate.tokens_per_second)

    assert 0 < speed < 10
    assert run.steps * run.tokens_per_step / speed <= run.estimate.seconds


@pytest.mark.parametrize("gpus", [1, 2, 4, 8, 32])
def test_gpu_hours_times_the_price_are_the_cost(gpus: int):
    """Whoever multiplies what is printed gets what is printed, to the cent."""
    run = planned("8b", a_pool(pricePerGPUHourUSD="6.88"), method="lora", resources={"gpus": gpus}).plan.estimate

    assert f"{float(run.gpu_hours) * 6.88:.2f}" == run.cost_usd
