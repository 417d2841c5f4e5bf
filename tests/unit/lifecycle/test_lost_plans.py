"""A job whose FineTunePlan was deleted while it had attempts: its preflight and plan come out the same, or it ends and says why."""

from dataclasses import replace

import pytest

from tests.unit.lifecycle.lifecycle_builders import a_failure, a_pool, examined
from tests.unit.lifecycle.test_replanning import OTHER, named, planned, without_nodes
from tests.unit.lifecycle.world import World, a_world

GONE = "was deleted"


def a_run() -> World:
    """Return a cluster in which attempt 0 runs by a plan of the planner."""
    world = a_world().settle().run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()
    return world.run("bot-0-0").settle().later(100)


def test_preflight_that_is_still_there_is_enough():
    """Its report has all that the plan is made of: nothing is created, nothing deleted, and the plan is the same one."""
    world = a_run()
    before = world.status
    world.lose_plan().settle()

    assert (world.status.plan, world.status.resolved, world.status.preflight) == (
        before.plan,
        before.resolved,
        before.preflight,
    )
    assert (world.status.plan_name, world.status.phase) == (before.plan_name, "Training")
    assert (world.created, world.deleted) == (["bot-preflight-1", "bot-0-0"], [])


def test_preflight_runs_again_beside_the_pods():
    """They have what they run by. Until then the job says what it does, and the cost so far stays."""
    world = a_run().vanish("bot-preflight-1")
    name, spent = world.status.plan_name, world.status.cost
    world.lose_plan().settle()
    said = world.condition("Reconciling")
    meanwhile = (world.status.cost, world.status.plan, world.attempts[0].outcome, world.deleted)
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()

    assert said == (
        "True", "Examining",
        f"FineTunePlan {name} {GONE}, so preflight and plan are made again: checking the model, the data and the output",
    )  # fmt: skip
    assert meanwhile == (spent, None, None, [])
    assert (world.status.phase, world.status.plan_name) == ("Training", name)
    assert world.created == ["bot-preflight-1", "bot-0-0", "bot-preflight-1"]


def test_another_run_ends_the_job():
    """The data has changed: what trains now would not be what the status says. The Pods go, with their cost."""
    world = a_run().vanish("bot-preflight-1")
    name = world.status.plan_name
    world.lose_plan().settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined(run_digest="sha256:" + "b" * 64)).settle()

    assert world.condition("Succeeded") == (
        "False", "PlanLost",
        f"FineTunePlan {name} {GONE}, and the job cannot continue without it: preflight finds another model or other data than before, "
        "so that this would be another run",
    )  # fmt: skip
    assert [(each.outcome, each.cost_usd) for each in world.attempts] == [("PlanLost", "0.10")]
    assert world.deleted == ["bot-0-0"]


def test_a_price_that_has_changed_changes_nothing():
    """The plan was made at the price of its day, which status has pinned: the same plan is made again, and the cost goes on by it."""
    world = a_run()
    before = world.status
    world.lose_plan()
    world.pools = (a_pool(pricePerGPUHourUSD="7.20", capacity="spot"),)
    world.settle().later(100).settle()

    assert (world.status.plan, world.status.resolved, world.status.plan_name) == (
        before.plan,
        before.resolved,
        before.plan_name,
    )
    assert (world.status.phase, world.created, world.deleted) == ("Training", ["bot-preflight-1", "bot-0-0"], [])
    assert world.status.cost is not None
    assert world.status.cost.cost_usd == "0.18"  # of three minutes: it is told by the minute


@pytest.mark.parametrize("price", ["0.10", "3.60"])
def test_another_pool_that_would_be_chosen_by_now_is_not(price: str):
    """It was added, or its price was lowered, after the plan was made: Pods stay where they are."""
    world = a_run()
    before = world.status.plan
    assert before is not None
    world.lose_plan()
    world.pools = (a_pool(pricePerGPUHourUSD="7.20"), named("cheap", pricePerGPUHourUSD=price))
    world.settle()

    assert (world.status.phase, world.deleted) == ("Training", [])
    assert world.status.plan is not None
    assert world.status.plan.model_copy(update={"alternatives": before.alternatives}) == before


def test_a_job_that_has_moved_to_another_pool_stays_there():
    """The planner would choose the first pool again, whose nodes were not free."""
    world = planned(OTHER, resources={"failover": True})
    without_nodes(world, "bot-0-0").run("bot-1-0").settle()
    moved = world.status.plan
    assert moved is not None
    world.lose_plan().settle()

    assert (world.status.phase, world.status.plan and world.status.plan.summary) == ("Training", moved.summary)
    assert world.status.plan is not None
    assert world.status.plan.pool == moved.pool


def test_another_layout_ends_the_job():
    """The nodes of the pool have other GPUs: the next attempt would not be like those before."""
    world = a_run().lose_plan()
    world.pools = (a_pool(gpuType="NVIDIA-H200", pricePerGPUHourUSD="7.20"),)
    world.settle()

    assert world.condition("Succeeded")[1:] == (
        "PlanLost",
        f"FineTunePlan {world.status.plan_name} {GONE}, and the job cannot continue without it: the plan would be lora on 1 x "
        "H200 on pool h100 at $3.60 per GPU-hour, and it was lora on 1 x H100-80GB-HBM3 on pool h100 at $3.60 per GPU-hour",
    )


def test_a_pool_that_is_gone_ends_the_job():
    """In the planner's words."""
    world = a_run().lose_plan()
    world.pools = ()
    world.settle()

    assert world.condition("Succeeded")[1] == "PlanLost"
    assert "cannot continue without it: " in world.condition("Succeeded")[2]


def test_a_preflight_that_fails_ends_the_job_with_its_own_reason():
    """What it says is the cause; that the plan was deleted, why it ran."""
    world = a_run().vanish("bot-preflight-1").lose_plan().settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 87, a_failure("DatasetNotFound", "no such file")).settle()

    assert world.condition("Succeeded")[1] == "DatasetNotFound"
    assert world.attempts[0].outcome == "DatasetNotFound"


def test_a_run_that_has_published_meanwhile_is_done():
    """Its Pod went with its last words; preflight finds the result at the destination."""
    world = a_run().vanish("bot-preflight-1").lose_plan().settle()
    found = replace(examined(), reason="AlreadyPublished", message="this run is complete", preflight=None)
    world.run("bot-preflight-1").end("bot-preflight-1", 0, found).settle()

    assert world.condition("Succeeded")[:2] == ("True", "Published")
    assert [each.outcome for each in world.attempts] == ["Succeeded"]
