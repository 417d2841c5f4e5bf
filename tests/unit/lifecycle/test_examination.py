"""From preflight to a pinned plan: what is examined again, what is refused, and when a refusal ends."""

from tests.unit.lifecycle.lifecycle_builders import a_failure, a_pool, examined
from tests.unit.lifecycle.world import World, a_planned_world, a_world


def test_plan_only_stops_after_the_plan_and_goes_on_without_a_second_preflight():
    """planOnly: false is not an edit of what was examined."""
    world = a_planned_world(planOnly=True)
    assert (world.status.phase, world.created) == ("Planned", ["bot-preflight-1"])
    assert world.condition("Reconciling") == (
        "False", "PlanOnly", "lora on 1 x H100-80GB-HBM3: set spec.planOnly to false to start training",
    )  # fmt: skip

    world.edit(planOnly=False).settle()

    assert world.created == ["bot-preflight-1", "bot-0-0"]
    assert world.status.preflight_generation == 1


def test_an_edit_before_the_first_attempt_starts_preflight_again():
    """A typo found by preflight is fixed in place; the old Pod goes."""
    world = a_world().settle()
    missing = a_failure("DatasetNotFound", "s3://team-a/trian.jsonl does not exist: correct datasets[0].source")
    world.run("bot-preflight-1").end("bot-preflight-1", 87, missing).settle()
    assert (world.status.phase, world.condition("Stalled")) == (
        "Failed",
        (
            "True",
            "DatasetNotFound",
            "s3://team-a/trian.jsonl does not exist: correct datasets[0].source; "
            "to retry, change the spec or repair the cause: for 24 hours preflight runs again by itself, at least every 10 minutes",
        ),
    )

    world.edit(datasets=[{"source": "s3://team-a/other.jsonl"}]).settle()

    assert (world.status.phase, sorted(world.pods)) == ("Preflight", ["bot-preflight-2"])
    assert world.conditions["Succeeded"] == "Unknown Examining"
    assert world.status.completion_time is None


def test_an_edit_after_the_plan_plans_again():
    """Preflight and plan rest on the spec: both are void."""
    world = a_planned_world(planOnly=True)

    world.edit(training={"epochs": 1}).settle()

    assert (world.status.plan, world.status.preflight, sorted(world.pods)) == (None, None, ["bot-preflight-2"])


def test_a_spec_that_breaks_a_rule_is_refused_before_anything_is_created():
    """What CEL cannot say, or an older CRD let through, is said in a condition."""
    world = a_world(training={"epochs": 1, "maxSteps": 10}).settle()

    said = world.status.phase, [*world.created], world.conditions["Accepted"]
    mended = world.edit(training={"epochs": 1}).settle()

    assert said == ("Failed", [], "False InvalidSpec")
    assert "Accepted" not in mended.conditions


def test_what_does_not_fit_is_said_before_a_gpu_is_asked_for():
    """The planner's own sentence, as terminal reason."""
    world = a_world(pool=a_pool(maxNodes=0)).settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()

    status, reason, message = world.condition("Succeeded")
    assert (status, reason, world.created) == ("False", "DoesNotFit", ["bot-preflight-1"])
    assert message
    assert world.condition("Planned") == ("False", "DoesNotFit", message)
    assert (
        world.condition("Stalled")[2]
        == f"{message}; the job is planned again when its spec, a GPUPool or a quota of the namespace changes"
    )


def a_world_that_does_not_fit() -> World:
    world = a_world(pool=a_pool(maxNodes=0)).settle()
    return world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()


def test_a_job_that_did_not_fit_is_planned_again_when_a_pool_can_hold_it():
    """The platform team adds nodes; the user need not touch the job."""
    world = a_world_that_does_not_fit()
    world.pools = (a_pool(),)
    world.settle()

    assert (world.status.phase, world.status.completion_time) == ("Planned", None)
    assert world.conditions["Succeeded"].startswith("Unknown")
    assert world.status.plan is not None
    assert world.created[-1] == "bot-0-0"


def test_a_pool_that_is_too_small_as_well_changes_the_sentence():
    """The refusal names what there is now, and the job does not run."""
    world = a_world_that_does_not_fit()
    before = world.condition("Succeeded")[2]
    world.pools = (a_pool(maxNodes=1, gpusPerNode=1, gpuType="ACME-X9", memoryGiB="1"),)
    world.settle()

    status, reason, after = world.condition("Succeeded")
    assert (status, reason, world.status.plan) == ("False", "DoesNotFit", None)
    assert "ACME-X9 has 1.0" in after
    assert before != after


def test_the_same_pools_give_the_same_refusal_without_a_write():
    """A refusal that wrote itself anew in every pass would keep operator and API server busy for ever."""
    world = a_world_that_does_not_fit()
    ended, said = world.status.completion_time, world.condition("Succeeded")
    world.later(3600).settle()

    assert (world.status.completion_time, world.condition("Succeeded")) == (ended, said)


def test_a_job_that_failed_otherwise_is_not_planned_again():
    """Only the want of GPUs is mended by more of them."""
    world = a_world().settle()
    world.run("bot-preflight-1").end(
        "bot-preflight-1", 0, examined(model_config={"model_type": "rnn", "architectures": "R"})
    )
    world.settle()
    world.pools = (a_pool(maxNodes=8),)
    world.settle()

    assert world.condition("Succeeded")[:2] == ("False", "ModelUnsupported")


def test_a_model_that_cannot_be_sized_is_refused():
    """Preflight read a config.json of a family that the planner does not know."""
    world = a_world().settle()
    strange = examined(model_config={"model_type": "rnn", "architectures": "RNN"})
    world.run("bot-preflight-1").end("bot-preflight-1", 0, strange).settle()

    assert world.condition("Succeeded")[:2] == ("False", "ModelUnsupported")


def test_preflight_that_breaks_is_tried_again_and_then_given_up():
    """Three failures of the machinery; the pause doubles. During it the Pod stays with its log, and why is said."""
    world = a_world().settle()
    pauses, said = [], []
    for _ in range(2):
        world.run("bot-preflight-1").end("bot-preflight-1", 1, a_failure("StorageUnavailable", "S3 does not answer"))
        world.settle()
        assert world.decision is not None
        pauses.append(world.decision.requeue_after)
        said.append(world.later(1).settle().condition("Reconciling"))
        assert list(world.pods) == ["bot-preflight-1"]
        world.later(pauses[-1] or 0).settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 1, a_failure("StorageUnavailable", "S3 does not answer"))
    world.settle()

    assert pauses == [10, 20]
    why = "preflight failed (StorageUnavailable: S3 does not answer) and is retried at"
    assert said[0] == ("True", "BackOff", f"{why} 2026-01-31T12:00:10Z")
    assert world.created == ["bot-preflight-1"] * 3
    assert world.condition("Succeeded") == (
        "False",
        "RetriesExhausted",
        "preflight failed 3 times (runPolicy.maxRetries is 3), most recently with StorageUnavailable: S3 does not answer",
    )


def test_a_preflight_pod_that_a_stranger_deletes_is_created_again():
    """It leaves nothing behind that would be in the way."""
    world = a_world().settle().vanish("bot-preflight-1").settle()

    assert world.created == ["bot-preflight-1", "bot-preflight-1"]


def test_a_preflight_pod_on_a_dead_node_is_given_up():
    """Nobody confirms its end; its name is needed for the next one."""
    world = a_world().settle().run("bot-preflight-1")
    world.remove("bot-preflight-1")
    world.settle()
    assert world.condition("Reconciling")[2] == "waiting for Pod bot-preflight-1 to terminate"
    assert world.decision is not None
    waits = world.decision.requeue_after

    world.later(waits or 0).settle()
    assert (waits, world.created, world.deleted) == (60, ["bot-preflight-1"] * 2, ["bot-preflight-1"])
