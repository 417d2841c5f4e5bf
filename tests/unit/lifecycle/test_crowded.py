"""Another job keeps its checkpoints where this one wants to."""

from tests.unit.lifecycle.world import a_planned_world, a_training_world, a_world

SHARED = {"destination": "s3://team-a/checkpoints"}


def test_a_job_among_the_checkpoints_of_another_is_refused_before_anything_is_created():
    """It would end the other one, after hours of training. A destination of its own is enough."""
    world = a_world(checkpoint=SHARED)
    world.checkpoints_of = "other"
    world.settle()

    assert (world.status.phase, world.created) == ("Failed", [])
    assert world.condition("Succeeded") == (
        "False",
        "OutputOccupied",
        "job other, which has not finished, keeps its checkpoints in s3://team-a/checkpoints: "
        "set another checkpoint.destination, or delete this job and apply it again once that one has finished",
    )

    world.checkpoints_of = ""
    world.edit(checkpoint={"destination": "s3://team-a/mine"}).settle()
    assert (world.status.phase, world.created) == ("Preflight", ["bot-preflight-2"])


def test_a_job_that_has_begun_is_not_disturbed_by_another():
    """Its checkpoints were there first; a plan alone disturbs nobody either."""
    world = a_training_world(checkpoint=SHARED)
    world.checkpoints_of = "other"
    planned = a_planned_world(planOnly=True, checkpoint=SHARED)
    planned.checkpoints_of = "other"

    assert (world.settle().status.phase, planned.settle().status.phase) == ("Training", "Planned")
