"""What is told of attempts: why they ended, where they began, what was lost, on which nodes."""

from datetime import timedelta

from finetune_operator.api.status import CheckpointStatus

from tests.unit.lifecycle.lifecycle_builders import a_failure, a_preemption, a_progress
from tests.unit.lifecycle.world import a_planned_world, a_training_world


def test_a_node_that_failed_two_attempts_is_avoided():
    """From the third attempt on the Pod prefers other nodes."""
    world = a_training_world(runPolicy={"maxRetries": 10})
    affinities = []
    for number in range(3):
        world.run(f"bot-{number}-0", "node-1").settle().end(f"bot-{number}-0", 1, a_failure()).settle()
        world.later(600)
        decision = world.one_pass()
        affinity = decision.create[0]["spec"]["affinity"]["nodeAffinity"]
        affinities.append(affinity.get("preferredDuringSchedulingIgnoredDuringExecution"))
        world.settle()

    term = {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["node-1"]}]}
    preferences = [{"weight": 100, "preference": term}]
    assert affinities == [None, preferences, preferences]


def test_the_wasted_part_is_what_must_be_done_again():
    """100 seconds for 80 steps of which 60 are safe: a quarter is lost."""
    world = a_training_world().later(100).end("bot-0-0", 1, a_failure(step=80, checkpoint_step=60)).settle()

    assert world.status.wasted_gpu_seconds == 25
    assert world.status.cost
    assert (world.status.cost.cost_usd, world.status.cost.wasted_usd) == ("0.10", "0.025")


def test_ten_attempts_are_listed_and_the_money_of_older_ones_is_kept():
    """Thirteen preempted attempts of 60 seconds each; Pods of unlisted attempts go."""
    world = a_training_world(resources={"gpus": 2})
    for number in range(13):
        for replica in range(2):
            world.run(f"bot-{number}-{replica}", f"node-{replica}")
        world.settle().later(60)
        for replica in range(2):
            world.end(f"bot-{number}-{replica}", 85, a_preemption(10 * number + 10))
        world.settle()

    assert [entry.number for entry in world.attempts] == list(range(4, 14))
    assert world.status.cost
    assert (world.status.archived_gpu_seconds, world.status.cost.cost_usd) == (480, "1.56")
    assert world.services == {f"bot-{number}" for number in range(4, 14)}
    assert sorted({pod.attempt for pod in world.pods.values() if pod.role == "trainer"}) == list(range(4, 14))


def test_a_pod_on_a_dead_node_ends_its_attempt_when_its_grace_is_over():
    """Deleted by the taint manager, never ended by its kubelet: half a minute past the grace it is given up."""
    world = a_training_world().later(60)
    world.change("bot-0-0", deleting=True, delete_by=world.now + timedelta(seconds=30)).settle()
    waits = world.decision and world.decision.requeue_after
    world.later(60).settle()
    world.later(10).settle()

    assert waits == 60
    assert [(entry.outcome, entry.failed_node, entry.message) for entry in world.attempts] == [
        ("NodeLost", "node-1", "node node-1 is not responding, so Pod bot-0-0 could not be stopped"),
        (None, "", None),
    ]
    assert "bot-1-0" in world.pods


def test_a_pod_deleted_by_a_stranger_ends_its_attempt_as_killed():
    """Nobody saw it end: the next attempt starts from what the store holds."""
    world = a_training_world().later(60).vanish("bot-0-0").settle()

    entry = world.attempts[0]
    assert (entry.outcome, entry.gpu_seconds, entry.message) == (
        "Killed",
        60,
        "Pod bot-0-0 was deleted before it reported a result; the next attempt starts from the latest stored checkpoint",
    )


def test_a_checkpoint_that_nobody_reported_is_found_by_the_next_attempt():
    """Two Pods vanished, the second after saving step 40: the third starts there, and the count starts again."""
    world = a_training_world().later(60).vanish("bot-0-0").settle().later(10).settle()
    world.run("bot-1-0").settle().later(60).vanish("bot-1-0").settle().later(20).settle()
    assert world.status.attempts_without_progress == 2
    world.run("bot-2-0").report(a_progress(40, first_step=40, checkpoint_step=40)).settle()

    entry = world.attempts[2]
    assert (entry.first_step, entry.last_step, entry.checkpoint_step) == (40, 40, 40)
    assert world.status.checkpoint == CheckpointStatus(step=40, time="2026-01-31T12:02:30Z")
    assert world.status.attempts_without_progress == 0


def test_where_an_attempt_began_is_known_from_any_line_of_its_log():
    """Lines are read seconds apart: the first one that the operator sees may be from the middle of training."""
    world = a_training_world().later(60).vanish("bot-0-0").settle().later(10).settle()
    world.run("bot-1-0").report(a_progress(52, first_step=40, checkpoint_step=50)).settle()

    entry = world.attempts[1]
    assert (entry.first_step, entry.last_step, entry.checkpoint_step) == (40, 52, 50)


def test_an_attempt_that_starts_from_an_older_checkpoint_says_so():
    """The newest one was damaged: progress is measured from where it really starts."""
    world = a_training_world().later(60).end("bot-0-0", 85, a_preemption(80)).settle().run("bot-1-0")
    world.report(a_progress(40, first_step=40, checkpoint_step=40)).settle()
    world.later(60).report(a_progress(70, checkpoint_step=60)).end("bot-1-0", 1, a_failure(step=70, checkpoint_step=60))
    world.settle()

    assert [(entry.first_step, entry.checkpoint_step) for entry in world.attempts[:2]] == [(0, 80), (40, 60)]
    assert (world.status.attempts_without_progress, world.status.wasted_gpu_seconds) == (0, 20)


def test_a_pod_that_had_no_node_yet_is_simply_created_again():
    """Nothing was computed, so nothing ended."""
    waiting = a_planned_world().vanish("bot-0-0").settle()

    assert (len(waiting.attempts), waiting.created[-2:]) == (1, ["bot-0-0", "bot-0-0"])
