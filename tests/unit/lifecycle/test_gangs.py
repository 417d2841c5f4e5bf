"""Runs on several nodes: all replicas or none, at creation, at scheduling, and at the end."""

from finetune_contract import Outcome
from finetune_operator.lifecycle.observation import Refusal

from tests.unit.lifecycle.lifecycle_builders import a_failure, a_pool, a_preemption, a_progress, examined, published
from tests.unit.lifecycle.world import World, a_planned_world, a_training_world, a_world

REPLICAS = ["bot-0-0", "bot-0-1", "bot-0-2"]


def a_gang(**spec: object) -> World:
    return a_planned_world(resources={"gpus": 3}, training={"globalBatchSize": 33}, **spec)


def a_running_gang() -> World:
    return a_training_world(resources={"gpus": 3}, training={"globalBatchSize": 33})


def test_the_service_comes_first_and_the_gates_are_lifted_when_all_pods_exist():
    """No replica may hold a GPU before the last one has passed the quota."""
    world = a_world(resources={"gpus": 3}, training={"globalBatchSize": 33}).settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined())

    creating = world.one_pass()
    gated = [world.pods[name].gated for name in REPLICAS]
    releasing = world.one_pass()

    assert [(item["kind"], item["metadata"]["name"]) for item in creating.create] == [
        ("Service", "bot-0"), ("Pod", "bot-0-0"), ("Pod", "bot-0-1"), ("Pod", "bot-0-2"),
    ]  # fmt: skip
    assert (gated, list(releasing.ungate)) == ([True] * 3, REPLICAS)


def test_a_pod_group_is_there_before_the_gates_are_lifted():
    """It counts all Pods and their resources, and belongs to the first of them; each Pod names it."""
    pool = a_pool(pod={"podGroup": "volcano", "schedulerName": "volcano"})
    world = a_world(pool=pool, resources={"gpus": 3}, training={"globalBatchSize": 33}).settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()).one_pass()
    releasing = world.one_pass()
    group, pod = world.manifests["PodGroup bot-0"], world.manifests["bot-0-1"]

    assert [(item["kind"], item["metadata"]["name"]) for item in releasing.create] == [("PodGroup", "bot-0")]
    assert list(releasing.ungate) == REPLICAS
    assert (group["spec"]["minMember"], group["spec"]["minResources"]["nvidia.com/gpu"]) == (3, "3")
    assert group["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "bot-0-0", "uid": world.pods["bot-0-0"].uid}
    ]
    assert pod["metadata"]["annotations"]["scheduling.k8s.io/group-name"] == "bot-0"


def test_a_pod_group_goes_with_its_attempt():
    """Its scheduler would reserve resources for Pods that have ended; the next attempt has one of its own."""
    pool = a_pool(pod={"podGroup": "volcano", "schedulerName": "volcano"})
    world = a_world(pool=pool, resources={"gpus": 3}, training={"globalBatchSize": 33}).settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()
    for name in REPLICAS:
        world.run(name)
    world.settle()
    first = [each.name for each in world.pod_groups]
    for name in REPLICAS:
        world.end(name, 85, a_preemption(40))
    world.settle().reap().settle()

    assert first == ["bot-0"]
    assert [each.name for each in world.pod_groups] == ["bot-1"]


def test_a_pod_group_that_is_refused_keeps_the_gates():
    """Pods without their PodGroup would wait for ever; the reason is said, and it is tried again."""
    pool = a_pool(pod={"podGroup": "volcano", "schedulerName": "volcano"})
    world = a_world(pool=pool, resources={"gpus": 3}, training={"globalBatchSize": 33}).settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()).one_pass()
    world.refusal = Refusal(reason="PodRefused", message="no PodGroups", at=world.now)
    held = world.one_pass()
    gated = [world.pods[name].gated for name in REPLICAS]
    said = world.condition("Reconciling")
    world.later(held.requeue_after or 0).settle()

    assert (gated, said) == ([True] * 3, ("True", "PodRefused", "no PodGroups"))
    assert [world.pods[name].gated for name in REPLICAS] == [False] * 3


def test_gates_that_were_not_lifted_are_lifted_by_the_next_pass():
    """The operator died between two of them: one replica has a node by now, and waits for the others."""
    world = a_world(resources={"gpus": 3}, training={"globalBatchSize": 33}).settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()).one_pass()
    world.change("bot-0-0", gated=False).run("bot-0-0")

    world.settle()

    assert [world.pods[name].gated for name in REPLICAS] == [False] * 3
    assert world.condition("PodsReady")[1] == "WaitingForGang"


def test_a_refused_replica_takes_the_others_down_and_all_are_tried_again():
    """Quota for two of three: nothing stays behind, nothing is scheduled, and the wait has a reason."""
    world = a_world(resources={"gpus": 3}, training={"globalBatchSize": 33}).settle()
    world.quota = 2
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()
    waiting = (sorted(world.pods), world.condition("Reconciling"), world.status.phase)
    pause = world.decision and world.decision.requeue_after
    world.quota = 3
    world.later(pause or 0).settle()

    assert waiting == (["bot-preflight-1"], ("True", "QuotaExceeded", "exceeded quota: gpu"), "Planned")
    assert pause is not None
    assert 30 <= pause <= 40
    assert sorted(world.pods) == [*REPLICAS, "bot-preflight-1"]
    assert len(world.attempts) == 1


def test_a_job_waits_for_the_gang_and_says_how_far_it_is():
    """Two of three have a node."""
    world = (
        a_gang().run("bot-0-0").run("bot-0-1", "node-2").change("bot-0-2", unschedulable="0/3 nodes: no GPU").settle()
    )

    assert (world.status.phase, world.condition("PodsReady")) == (
        "Planned",
        ("False", "WaitingForGang", "attempt 1: 2 of 3 Pods are scheduled: 0/3 nodes: no GPU"),
    )
    assert world.condition("Reconciling")[0] == "True"


def test_a_gang_that_does_not_get_all_its_nodes_is_taken_down_and_tried_again():
    """After provisioningSeconds and some jitter its nodes are free for others; it counts as no failure."""
    world = a_gang(pool=a_pool(provisioningSeconds=100)).run("bot-0-0").run("bot-0-1", "node-2").settle()
    due = world.decision and world.decision.requeue_after
    assert due is not None
    assert 100 <= due <= 110
    world.later(due).settle()
    assert sorted(world.deleted) == REPLICAS
    for name in REPLICAS[:2]:
        world.end(name, 143)
    world.settle().reap().settle()
    back_off = world.decision and world.decision.requeue_after
    world.later(80).settle()

    assert world.attempts[0].outcome == "NotScheduled"
    assert (world.attempts[0].message or "").startswith("not all Pods were scheduled within 100 s: 2 of 3 Pods are")
    assert world.status.wasted_gpu_seconds == 2 * due
    assert back_off is not None
    assert 10 <= back_off <= 70
    assert (len(world.attempts), world.status.attempts_without_progress) == (2, 0)


def test_a_gated_pod_that_a_stranger_deletes_is_created_again():
    """Nothing had started."""
    world = a_gang().vanish("bot-0-1").settle()

    assert sorted(world.pods) == [*REPLICAS, "bot-preflight-1"]
    assert (len(world.attempts), [world.pods[name].gated for name in REPLICAS]) == (1, [False] * 3)


def test_when_one_replica_fails_the_others_are_told_to_save_and_the_cause_is_kept():
    """The killed replica explains the attempt, not those that lost it."""
    world = a_running_gang().later(60).end("bot-0-1", 137).settle()
    assert (sorted(world.deleted), world.attempts[0].outcome) == (["bot-0-0", "bot-0-2"], None)
    world.later(5).end("bot-0-0", 1, a_failure("CommunicationTimeout", "lost replica 1"))
    world.end("bot-0-2", 1, a_failure("CommunicationTimeout", "lost replica 1")).settle()

    entry = world.attempts[0]
    assert (entry.outcome, entry.failed_node, entry.gpu_seconds, entry.message) == (
        "Killed", "node-2", 60 + 65 + 65, "Pod bot-0-1 was killed (exit code 137, SIGKILL)",
    )  # fmt: skip


def test_the_next_attempt_waits_until_no_pod_of_the_last_one_computes():
    """Two attempts at once would write the same checkpoints."""
    world = a_running_gang().later(60).end("bot-0-1", 137).settle()
    world.later(25).end("bot-0-0", 85, a_preemption(30)).settle()
    assert len(world.attempts) == 1
    world.later(5).end("bot-0-2", 85, a_preemption(30)).settle()

    assert [(entry.outcome, entry.checkpoint_step) for entry in world.attempts] == [("Killed", 30), (None, 30)]


def test_a_replica_killed_for_another_ones_failure_does_not_hide_it():
    """Times have no fractions: the one that we delete may end in the second of the one that failed."""
    world = a_training_world(resources={"gpus": 2})
    world.end("bot-0-1", 1, a_failure("TrainerError", "index out of range")).one_pass()
    world.end("bot-0-0", 137).settle().reap().settle()

    assert (world.attempts[0].outcome, world.attempts[0].message) == ("TrainerError", "index out of range")


def test_replica_zero_decides_about_success():
    """It publishes; the others only have to end."""
    world = a_running_gang().later(60).end("bot-0-0", 0, published()).settle()
    waiting = (world.status.phase, list(world.deleted), world.decision and world.decision.requeue_after)
    world.later(60).settle()
    for name in REPLICAS[1:]:
        world.end(name, 143)
    world.settle()

    assert waiting == ("Publishing", [], 60)
    assert sorted(world.deleted) == ["bot-0-1", "bot-0-2"]
    assert (world.status.phase, world.attempts[0].outcome) == ("Succeeded", "Succeeded")


def test_a_finished_replica_that_is_drained_before_the_others_end_is_no_loss():
    """Replica 1 ended well and its Pod is gone; replica 0 still uploads."""
    done = Outcome(outcome="Succeeded", reason="Published", message="published")
    world = a_running_gang().later(60).end("bot-0-1", 0, done).end("bot-0-2", 0, done).end("bot-0-0", 0, published())
    world.vanish("bot-0-1").settle()

    assert world.status.phase == "Succeeded"


def test_replica_zero_publishes_in_peace_after_the_others_have_ended():
    """A large model uploads for minutes; nobody may delete that Pod because the others had nothing left to do."""
    done = Outcome(outcome="Succeeded", reason="Published", message="published")
    world = a_running_gang().later(60).report(a_progress(169, phase="publishing"))
    world.end("bot-0-1", 0, done).settle().later(300).end("bot-0-2", 0, done).settle()
    world.vanish("bot-0-2").settle()
    quiet = (list(world.deleted), world.status.phase)
    world.later(60).end("bot-0-0", 0, published()).settle()

    assert quiet == ([], "Publishing")
    assert (world.status.phase, world.attempts[0].outcome) == ("Succeeded", "Succeeded")


def test_a_replica_that_ends_well_before_any_report_of_publishing_takes_nobody_down():
    """The outcome of a Pod may be seen before the last progress report is. It says as much, and its Pod may go."""
    done = Outcome(outcome="Succeeded", reason="Published", message="published")
    world = a_running_gang().later(60).end("bot-0-2", 0, done).settle()
    del world.pods["bot-0-2"]
    world.settle()

    assert (world.deleted, world.status.phase) == ([], "Publishing")


def test_every_replica_that_is_scheduled_is_paid_for_from_then_on():
    """Three GPUs for 60 seconds, and two of them for 30 seconds more, which were spent on waiting."""
    world = a_gang().run("bot-0-0").run("bot-0-1", "node-2").settle().later(30).run("bot-0-2", "node-3").settle()
    world.later(60)
    for name in REPLICAS:
        world.end(name, 85, a_preemption(10))
    world.settle()

    assert (world.attempts[0].gpu_seconds, world.status.wasted_gpu_seconds) == (3 * 60 + 2 * 30, 2 * 30)
