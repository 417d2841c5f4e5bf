"""Another plan before anything was saved: on another pool, or a larger one after GPU memory ran out."""

from typing import Any

import pytest
from finetune_operator.api.pools import GPUPool

from tests.unit.lifecycle.lifecycle_builders import (
    a_failure,
    a_pool,
    a_progress,
    examined,
    pinned_status,
)
from tests.unit.lifecycle.world import World, a_world

NO_NODE = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def named(name: str, **parts: Any) -> GPUPool:
    pool = a_pool(**{"provisioningSeconds": 100, **parts})
    return pool.model_copy(update={"metadata": pool.metadata.model_copy(update={"name": name})})


FIRST = named("h100")
OTHER = named("other", pricePerGPUHourUSD="7.20")


def planned(*pools: GPUPool, plan: dict[str, Any] | None = None, **spec: Any) -> World:
    """Return a world in which a plan on the first pool is pinned and its Pods exist."""
    world = a_world(pool=FIRST, **spec).settle()
    world.pools = (FIRST, *pools)
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined())
    pinned = pinned_status(world.job, FIRST, **(plan or {}))
    world.job = world.job.model_copy(update={"status": pinned})
    return world.settle()


def without_nodes(world: World, *names: str) -> World:
    """Let the scheduler find nothing for Pods, until the first moment at which the job asked to look again."""
    for name in names:
        world.change(name, unschedulable=NO_NODE)
    world.settle()
    due = world.decision and world.decision.requeue_after
    return world.later(due or 100_000).settle()


def test_a_job_moves_to_another_pool_when_its_own_has_no_nodes():
    """Nothing was trained: the next attempt has a plan of its own, at the other pool's price."""
    world = without_nodes(planned(OTHER, resources={"failover": True}), "bot-0-0")

    entry, plan = world.attempts[0], world.status.plan
    assert plan is not None
    assert (entry.outcome, entry.message) == ("NotScheduled", f"not all Pods were scheduled within 100 s: {NO_NODE}")
    assert (plan.pool.name, plan.pool.price_per_gpu_hour_usd) == ("other", "7.20")
    assert plan.warnings[0] == "pool h100 had no free nodes for 100 s: the job moved to pool other"
    assert (len(world.attempts), world.status.attempts_without_progress, "bot-1-0" in world.pods) == (2, 0, True)


def test_without_failover_a_job_waits_for_its_pool():
    """The default: a plan is a promise about price and hardware."""
    world = without_nodes(planned(OTHER), "bot-0-0")

    assert (world.status.plan and world.status.plan.pool.name, len(world.attempts)) == ("h100", 1)
    assert world.condition("Reconciling") == ("True", "Unschedulable", f"attempt 1: {NO_NODE}")


def test_a_job_that_fits_on_no_other_pool_waits_and_asks_for_nothing():
    """No pass is due by itself; a new pool brings one."""
    world = without_nodes(planned(resources={"failover": True}), "bot-0-0")
    alone = (len(world.attempts), world.decision and world.decision.requeue_after)
    world.pools = (FIRST, OTHER)
    world.settle()

    assert alone == (1, None)
    assert (world.status.plan and world.status.plan.pool.name, len(world.attempts)) == ("other", 2)


def test_a_missing_claim_is_no_stock_out():
    """It would be missing for every pool."""
    world = planned(OTHER, resources={"failover": True})
    world.change("bot-0-0", unschedulable='persistentvolumeclaim "data" not found').later(1000).settle()

    assert (world.status.plan and world.status.plan.pool.name, len(world.attempts)) == ("h100", 1)


def test_after_the_first_step_a_job_stays_on_its_pool():
    """Its checkpoint may be of a layout that another pool cannot have."""
    world = planned(OTHER, resources={"failover": True}).run("bot-0-0").settle()
    world.later(60).report(a_progress(5)).settle().end("bot-0-0", 137).settle().later(60).settle()
    without_nodes(world, "bot-1-0")

    assert (world.status.plan and world.status.plan.pool.name, len(world.attempts)) == ("h100", 2)


def test_when_all_pools_have_no_nodes_the_first_one_is_tried_again():
    """Whichever gets nodes first takes the job."""
    world = planned(OTHER, named("third", pricePerGPUHourUSD="9.00"), resources={"failover": True})
    seen = []
    for number in range(4):
        without_nodes(world, f"bot-{number}-0")
        assert world.status.plan is not None
        seen.append(world.status.plan.pool.name)

    assert seen == ["other", "third", "h100", "other"]


def test_what_a_gang_held_on_the_first_pool_is_paid_at_its_price():
    """One of two nodes was there for 100 s: 0.10 USD of 3.60 an hour, all of it wasted; then 60 s on two at 7.20."""
    world = planned(
        OTHER, resources={"failover": True, "gpus": 2}, training={"globalBatchSize": 64},
        runPolicy={"budget": {"maxCostUSD": "0.50"}},
    )  # fmt: skip
    world.run("bot-0-0").change("bot-0-1", unschedulable=NO_NODE).settle()
    held = world.decision and world.decision.requeue_after
    assert held is not None
    world.later(held).settle().end("bot-0-0", 143).settle().reap().settle()
    for name, node in (("bot-1-0", "node-7"), ("bot-1-1", "node-8")):
        world.run(name, node)
    world.settle().later(60).settle()

    cost = world.status.cost
    assert cost is not None
    assert float(cost.wasted_usd) == round(held * 0.001, 4)
    assert float(cost.cost_usd) == round(held * 0.001 + 120 * 0.002, 4)
    assert world.decision is not None
    assert world.decision.requeue_after == pytest.approx((0.50 - float(cost.cost_usd)) / 0.002 / 2)


SMALLEST = {"micro_batch_size": 1, "gradient_accumulation_steps": 32, "activation_checkpointing": True}


LARGER = named("h200", gpuType="NVIDIA-H200")


@pytest.mark.parametrize(
    ("pools", "method", "summary"),
    [((), "auto", "qlora on 1 x H100-80GB-HBM3"), ((LARGER,), "lora", "lora on 1 x H200")],
)
def test_a_smallest_layout_without_a_checkpoint_that_runs_out_of_memory_is_planned_again(
    pools: tuple[GPUPool, ...], method: str, summary: str
) -> None:
    """The estimate was too low by what the card lacked: the raised one fits with another method, or on another card."""
    world = planned(*pools, plan=SMALLEST, method=method).run("bot-0-0").settle()
    world.later(60).end("bot-0-0", 86, a_failure("OutOfMemory")).settle().later(600).settle()

    plan = world.status.plan
    assert plan is not None
    assert (plan.summary, len(world.attempts)) == (summary, 2)
    assert plan.warnings[0] == (
        "lora on 1 x H100-80GB-HBM3 ran out of GPU memory even with micro batch 1 and activation checkpointing, before the first "
        "checkpoint: the estimates of this plan were raised by what was missing"
    )
    assert float(plan.vram.total_gib) < 5 < float(plan.vram.request_gib) <= float(plan.vram.usable_gib)


def test_after_the_first_checkpoint_the_layout_stays():
    """DeepSpeed's files belong to one layout: the job says what would help."""
    world = planned(LARGER, plan=SMALLEST).run("bot-0-0").settle()
    world.later(60).report(a_progress(5, checkpoint_step=5)).settle()
    world.end("bot-0-0", 86, a_failure("OutOfMemory")).settle()

    assert world.condition("Succeeded")[1] == "DoesNotFit"
    assert "the GPU ran out of memory even with micro batch 1" in world.condition("Succeeded")[2]
