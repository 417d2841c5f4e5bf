"""Which conditions a job has: those that say something."""

from collections.abc import Callable

import pytest
from finetune_operator.api.meta import Condition
from finetune_operator.api.reasons import Phase
from finetune_operator.lifecycle.conditions import Outlook, stated

from tests.unit.lifecycle.lifecycle_builders import a_failure, published
from tests.unit.lifecycle.world import World, a_planned_world, a_training_world, a_world

ALWAYS = {"Planned": "True"}
STORIES: list[tuple[str, Callable[[], World], dict[str, str]]] = [
    ("planned", a_planned_world, {"PodsReady": "False", "Reconciling": "True", "Succeeded": "Unknown"}),
    ("running", a_training_world, {"PodsReady": "True", "Reconciling": "False", "Succeeded": "Unknown"}),
    (
        "suspended",
        lambda: a_training_world().edit(suspend=True).settle().end("bot-0-0", 85, a_failure("Preempted")).settle(),
        {"PodsReady": "False", "Suspended": "True", "Reconciling": "False", "Succeeded": "Unknown"},
    ),
    ("published", lambda: a_training_world().end("bot-0-0", 0, published()).settle(), {"Succeeded": "True"}),
    (
        "failed",
        lambda: a_training_world().end("bot-0-0", 87, a_failure("DatasetChanged")).settle(),
        {"Stalled": "True", "Succeeded": "False"},
    ),
]


@pytest.mark.parametrize(("world", "expected"), [story[1:] for story in STORIES], ids=[story[0] for story in STORIES])
def test_a_condition_that_says_nothing_is_absent(world: Callable[[], World], expected: dict[str, str]):
    """Nothing is wrong, nothing is on its way, there are no Pods: kstatus and kubectl wait need no condition for that."""
    assert {item.type: item.status for item in world().status.conditions} == ALWAYS | expected


def test_a_job_that_was_suspended_says_that_it_no_longer_is():
    """As a batch/v1 Job."""
    world = a_world(suspend=True).settle().edit(suspend=False).settle()

    assert [(item.status, item.reason) for item in world.status.conditions if item.type == "Suspended"] == [
        ("False", "NotSuspended")
    ]


def test_what_an_older_operator_wrote_is_left_until_it_changes():
    """Conditions that are no longer set, and generations in conditions, are no reason to write."""
    world = a_training_world()
    job, now = world.job, world.now
    older = {"observed_generation": job.metadata.generation, "last_transition_time": "2026-11-23T10:00:00Z"}
    left = [
        Condition(type="Accepted", status="True", reason="Accepted", **older),
        Condition(type="Suspended", status="False", reason="NotSuspended", **older),
        Condition(type="Stalled", status="False", reason="Running", **older),
    ]
    said = [item.model_copy(update={"observed_generation": job.metadata.generation}) for item in job.status.conditions]
    status = job.status.model_copy(update={"conditions": [*said, *left]})
    same = next(item for item in said if item.type == "PodsReady")
    outlook = Outlook(phase=job.status.phase, reason=same.reason, message=same.message, settled=True)
    ended = Outlook(phase=Phase.SUCCEEDED, reason="Published", message="published", settled=True)

    assert stated(status, outlook, job, now) == status
    assert {item.type for item in stated(status, ended, job, now).conditions} == {
        "Accepted", "Planned", "Suspended", "Succeeded",
    }  # fmt: skip
