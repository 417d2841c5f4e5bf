"""What tools that wait for resources (kubectl rollouts, Flux, Argo CD health by conditions) make of a job's status.

The rules are those of cli-utils' kstatus for custom resources, in its order.
"""

from collections.abc import Callable

import pytest
from finetune_operator.api.status import FineTuneJob

from tests.unit.lifecycle.lifecycle_builders import a_failure, a_preemption, published
from tests.unit.lifecycle.world import World, a_planned_world, a_training_world, a_world


def kstatus(job: FineTuneJob) -> str:
    """Return Terminating, InProgress, Failed or Current."""
    conditions = {item.type: item.status for item in job.status.conditions}
    if job.metadata.deletion_timestamp is not None:
        return "Terminating"
    if job.status.observed_generation != job.metadata.generation:
        return "InProgress"
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current"


STORIES: list[tuple[str, Callable[[], World], str]] = [
    ("first sight", lambda: a_world().settle(), "InProgress"),
    ("Pods exist", a_planned_world, "InProgress"),
    ("one of two runs", lambda: a_planned_world(resources={"gpus": 2}).run("bot-0-0").settle(), "InProgress"),
    ("all run", lambda: a_training_world(resources={"gpus": 2}), "Current"),
    ("between attempts", lambda: a_training_world().end("bot-0-0", 1).settle(), "InProgress"),
    ("suspending", lambda: a_training_world().edit(suspend=True).settle(), "InProgress"),
    ("suspended", lambda: a_world(suspend=True).settle(), "Current"),
    ("plan only", lambda: a_planned_world(planOnly=True), "Current"),
    ("published", lambda: a_training_world().end("bot-0-0", 0, published()).settle(), "Current"),
    ("failed", lambda: a_training_world().end("bot-0-0", 87, a_failure("DatasetChanged")).settle(), "Failed"),
]


@pytest.mark.parametrize(("world", "expected"), [s[1:] for s in STORIES], ids=[s[0] for s in STORIES])
def test_a_job_is_current_once_all_its_pods_run_and_failed_when_it_is(world: Callable[[], World], expected: str):
    """As a batch/Job: a wait of minutes must not time out on hours of training."""
    assert kstatus(world().job) == expected


def test_an_edit_is_in_progress_until_it_was_looked_at():
    """observedGeneration is on the status, and conditions have none of their own."""
    world = a_training_world().edit(runPolicy={"maxRetries": 5})
    before = kstatus(world.job)
    world.settle()

    assert (before, kstatus(world.job)) == ("InProgress", "Current")
    assert {item.observed_generation for item in world.status.conditions} == {None}


def test_no_moment_of_a_preempted_run_looks_failed_or_current_without_its_pods():
    """Pass by pass through a preemption and back."""
    world = a_training_world().later(60).end("bot-0-0", 85, a_preemption(30))
    seen = []
    for _ in range(3):
        world.one_pass()
        seen.append(kstatus(world.job))
    world.run("bot-1-0").settle()

    assert (seen, kstatus(world.job)) == (["InProgress"] * 3, "Current")
