"""Too little memory or disk on the host: the next attempt gets more, as far as a node has it."""

from typing import Any

import pytest

from tests.unit.lifecycle.lifecycle_builders import a_failure, a_pool, a_preemption
from tests.unit.lifecycle.world import a_training_world

OOM_KILLED = {"exit_code": 137, "outcome": a_failure("Killed", "the workers ended"), "terminated_reason": "OOMKilled"}


EVICTED = {
    "exit_code": 85,
    "outcome": a_preemption(80),
    "pod_reason": "Evicted",
    "pod_message": 'Usage of EmptyDir volume "workspace" exceeds the limit "20Gi". ',
}


@pytest.mark.parametrize(
    ("end", "field", "had", "given", "message"),
    [
        (
            OOM_KILLED,
            "memory_gib",
            16,
            24,
            "Pod bot-0-0 was killed because it reached its memory limit; it had 16 GiB of host memory; the next attempt gets 24 GiB",
        ),
        (
            EVICTED,
            "ephemeral_gib",
            20,
            30,
            'Pod bot-0-0 was evicted: Usage of EmptyDir volume "workspace" exceeds the limit "20Gi"; '
            "it had 20 GiB of local disk; the next attempt gets 30 GiB",
        ),
    ],
)
def test_too_little_room_on_the_host_is_half_as_much_again_the_next_time(
    end: dict[str, Any], field: str, had: int, given: int, message: str
):
    """The limit follows from an estimate; where that was too low, the same attempt again would end the same way."""
    world = a_training_world()
    world.change("bot-0-0", phase="Failed", finished_at=world.now, **end).settle().later(600).settle()
    plan = world.status.plan

    assert plan is not None
    assert world.attempts[0].message == message
    assert getattr(plan.host, field) == given
    assert plan.warnings[-1].startswith(f"an attempt failed with {world.attempts[0].outcome} at {had} GiB of ")
    assert world.created[-1] == "bot-1-0"


def test_a_node_that_has_no_more_room_ends_the_growth_in_words():
    """The pool's nodes have 16 GiB: the plan stays, and the message says what would help."""
    world = a_training_world(pool=a_pool(node={"cpus": 32, "memoryGiB": 16, "ephemeralGiB": 1000}))
    world.change("bot-0-0", phase="Failed", finished_at=world.now, **OOM_KILLED).settle().later(600).settle()
    plan = world.status.plan

    assert plan is not None
    assert (plan.host.memory_gib, plan.warnings) == (16, [])
    assert world.attempts[0].message == (
        "Pod bot-0-0 was killed because it reached its memory limit; it had 16 GiB of host memory, all that a node of pool h100 has: "
        "delete the job and apply it again with a pool of larger nodes"
    )
