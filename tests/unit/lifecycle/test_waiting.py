"""Why it is not running yet: one reason, one sentence, no retry counted, and no write without news."""

from datetime import UTC, datetime, timedelta

import pytest
from finetune_operator.api.reasons import WaitingReason
from finetune_operator.lifecycle.observation import Refusal
from finetune_operator.lifecycle.waiting import refused_until

from tests.unit.lifecycle.lifecycle_builders import NOW, a_progress
from tests.unit.lifecycle.world import World, a_planned_world, a_training_world, a_world

PULL = {"waiting_reason": "ImagePullBackOff", "waiting_message": "Back-off pulling image", "node_name": "node-1"}
CONFIG = {"waiting_reason": "CreateContainerConfigError", "waiting_message": 'secret "s" not found'}


@pytest.mark.parametrize(
    ("seen", "reason", "message"),
    [
        ({"unschedulable": "0/3 nodes: no GPU"}, "Unschedulable", "0/3 nodes: no GPU"),
        (PULL, "ImagePullFailed", "Pod bot-0-0: ImagePullBackOff: Back-off pulling image"),
        (CONFIG, "CannotStart", 'Pod bot-0-0 cannot start yet: CreateContainerConfigError: secret "s" not found'),
        ({"waiting_reason": "ContainerCreating"}, "Starting", "waiting for 1 Pod to start"),
    ],
)  # fmt: skip
def test_a_pod_that_does_not_start(seen: dict[str, str], reason: str, message: str):
    """The condition says what the scheduler or the kubelet says."""
    world = a_planned_world().change("bot-0-0", **seen).settle()

    assert world.condition("PodsReady") == ("False", reason, f"attempt 1: {message}")
    assert (world.status.phase, world.status.attempts_without_progress, world.deleted) == ("Planned", 0, [])


def test_preflight_says_what_it_waits_for():
    """Every node is tainted: the scheduler's words, what the Pod needs, and what to do."""
    tainted = "0/1 nodes are available: 1 node(s) had untolerated taint(s)."
    world = a_world().settle().change("bot-preflight-1", unschedulable=tainted).settle()

    assert world.condition("Reconciling") == (
        "True",
        "Unschedulable",
        f"preflight: {tainted} It needs 500m CPU and 1Gi of memory on a node without taints; no GPU: "
        "add such a node, or free resources on one",
    )


def test_a_claim_that_does_not_exist_is_no_matter_of_nodes():
    """The scheduler says it of all nodes, but neither a new nor a free one would help; the same for preflight and trainer."""
    words = {"unschedulable": '0/5 nodes are available: persistentvolumeclaim "nix" not found. not found'}
    remedy = (
        "PersistentVolumeClaim nix does not exist in this namespace: create it, or delete the job and apply it with "
        "another pvc:// location"
    )
    examined = a_world().settle().change("bot-preflight-1", **words).settle()
    planned = a_planned_world().change("bot-0-0", **words).settle()

    assert examined.condition("Reconciling") == ("True", "Unschedulable", f"preflight: {remedy}")
    assert planned.condition("PodsReady") == ("False", "Unschedulable", f"attempt 1: {remedy}")


def test_a_quota_is_waited_for_and_tried_again():
    """Preflight first: 30 to 40 seconds between tries, the API server's own words."""
    world = a_world()
    world.quota = 0
    world.settle()
    refused = (world.status.phase, world.condition("Reconciling"), list(world.created))
    pause = world.decision and world.decision.requeue_after
    world.quota = 1
    world.later(pause or 0).settle()

    assert refused == ("Pending", ("True", "QuotaExceeded", "exceeded quota: gpu"), [])
    assert world.created == ["bot-preflight-1"]


@pytest.mark.parametrize("started", [False, True])
def test_a_name_that_a_stranger_holds_ends_the_job(started: bool):
    """Waiting would not help: somebody must delete that object or choose another name."""
    world = a_planned_world() if started else a_world()
    if started:
        world.vanish("bot-0-0")
    world.refusal = Refusal(reason="NameConflict", message="Pod bot-0-0 exists and is not this job's", at=NOW)
    world.settle()

    assert world.condition("Succeeded") == ("False", "NameConflict", "Pod bot-0-0 exists and is not this job's")
    assert [entry.outcome for entry in world.attempts] == (["NameConflict"] if started else [])


def writes(world: World, seconds: int) -> int:
    """Count the status changes while nothing happens but time."""
    changes = 0
    for _ in range(seconds):
        before = world.status
        world.later(1).one_pass()
        changes += world.status != before
    return changes


def test_a_running_job_is_written_once_a_minute_at_most():
    """Only its cost changes."""
    assert writes(a_training_world(), 200) == 3


def test_a_waiting_job_is_not_written_at_all():
    """Neither before it starts nor after its end."""
    assert writes(a_planned_world(), 100) == 0
    assert writes(a_world(suspend=True).settle(), 100) == 0


@pytest.mark.parametrize("started", [False, True])
def test_a_refusal_that_is_tried_again_is_not_written_again(started: bool):
    """A full namespace: hundreds of jobs that try every half minute, and a phase that would flicker for whoever looks."""
    world = a_planned_world() if started else a_world()
    if started:
        world.vanish("bot-0-0")
    world.quota = 0
    world.settle()
    tries = []

    def refused_again(seconds: int) -> int:
        changes = writes(world, seconds)
        tries.append(world.refusal and world.refusal.at)
        return changes

    assert [refused_again(50) for _ in range(4)] == [0, 0, 0, 0]
    assert len(set(tries)) > 2
    world.quota = 1
    assert world.later(50).settle().condition("Reconciling")[1] == ("Starting" if started else "Examining")


def test_a_report_that_says_nothing_new_changes_nothing():
    """The log is read again and ends with the same line."""
    world = a_training_world().report(a_progress(10)).settle()
    before = world.status
    world.later(20).report(a_progress(10)).settle()

    assert world.status == before


def test_a_condition_keeps_its_transition_time_until_its_status_changes():
    """Reason and message may change without it."""
    world = a_planned_world().later(60).change("bot-0-0", unschedulable="0/3 nodes").settle()
    ready = next(item for item in world.status.conditions if item.type == "PodsReady")
    assert (ready.reason, ready.last_transition_time) == ("Unschedulable", "2026-01-31T12:00:00Z")
    world.run("bot-0-0").change("bot-0-0", unschedulable="").settle()
    ready = next(item for item in world.status.conditions if item.type == "PodsReady")

    assert (ready.status, ready.last_transition_time) == ("True", "2026-01-31T12:01:00Z")


def test_two_jobs_that_take_turns_in_each_others_way_do_not_do_so_for_ever():
    """Each has half a quota at once, is refused the other half and tries again: not always in the same second."""
    moments = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=34 * turn) for turn in range(20)]
    refusals = [Refusal(reason=WaitingReason.QUOTA_EXCEEDED, message="exceeded quota", at=moment) for moment in moments]

    apart = {refused_until("a", refusal) != refused_until("b", refusal) for refusal in refusals}

    assert apart == {False, True}
    assert all(
        timedelta(seconds=30) <= refused_until("a", each) - each.at <= timedelta(seconds=40) for each in refusals
    )
