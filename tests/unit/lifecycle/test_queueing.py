"""Jobs with a queue of Kueue: no Pod before admission, none after eviction, and quota given back only when they are gone."""

from typing import Any

from finetune_operator.lifecycle.observation import Queue

from tests.unit.lifecycle.lifecycle_builders import a_pool, a_preemption, a_progress, examined, published
from tests.unit.lifecycle.world import World, a_world

POOL = a_pool(gpusPerNode=8, maxNodes=1, node={"cpus": 64, "memoryGiB": 1000, "ephemeralGiB": 3000})
FULL = "couldn't assign flavors to pod set trainer: insufficient unused quota for nvidia.com/gpu in flavor h100, 2 more needed"


def queued(**spec: Any) -> World:
    """Return a world in which the first attempt's Workload exists."""
    world = a_world(pool=POOL, queueName="train", resources={"gpus": 4}, **spec)
    world.queue = Queue(read=True)
    return world.settle().run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()


def running(**spec: Any) -> World:
    world = queued(**spec).kueue("bot-0", admitted=True).settle().run("bot-0-0").settle()
    return world.later(60).report(a_progress(5)).settle()


def names(world: World) -> list[str]:
    return [each.name for each in world.queue.workloads]


def test_an_attempt_asks_for_what_its_pods_need():
    """The Workload has the plan's replicas and requests, and the job as its owner."""
    world = queued()
    workload = world.manifests["Workload bot-0"]
    (pod_set,) = workload["spec"]["podSets"]
    (container,) = pod_set["template"]["spec"]["containers"]

    assert (workload["apiVersion"], workload["spec"]["queueName"]) == ("kueue.x-k8s.io/v1beta2", "train")
    assert (pod_set["name"], pod_set["count"]) == ("trainer", 1)
    assert container["resources"]["requests"]["nvidia.com/gpu"] == "4"
    assert workload["metadata"]["ownerReferences"][0]["uid"] == world.job.metadata.uid
    assert "schedulingGates" not in pod_set["template"]["spec"]


def test_a_job_waits_in_its_queue_with_kueues_words():
    """No Pod exists, and preflight has not been counted."""
    world = queued().kueue("bot-0", pending=FULL).settle()

    assert world.status.phase == "Queued"
    assert world.condition("Reconciling") == ("True", "Queued", f"queue train: {FULL}")
    assert world.created == ["bot-preflight-1"]
    assert world.decision is not None
    assert world.decision.requeue_after == 5.0


def test_the_position_in_the_queue_is_said_where_kueue_tells_it():
    """Before Kueue's own words."""
    world = queued().kueue("bot-0", pending=FULL, position=3).settle()

    assert world.condition("Reconciling")[2] == f"queue train, position 3: {FULL}"


def test_an_admitted_job_runs_on_the_nodes_of_its_flavor():
    """Labels and tolerations of the flavor are added to what the pool has."""
    toleration = tuple(sorted({"key": "dedicated", "operator": "Exists"}.items()))
    world = queued().kueue("bot-0", admitted=True, node_labels=(("zone", "b"),), tolerations=(toleration,)).settle()
    spec = world.manifests["bot-0-0"]["spec"]

    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "zone": "b"}
    assert spec["tolerations"][-1] == {"key": "dedicated", "operator": "Exists"}


def test_a_workload_that_somebody_deletes_takes_the_quota_with_it():
    """Else the job would train on GPUs that Kueue gives to others: it saves, queues again and resumes."""
    world = running()
    world.queue = Queue(read=True, lost=True)
    world.settle()
    during = (world.pods["bot-0-0"].deleting, world.condition("Suspended")[1])
    world.end("bot-0-0", 85, a_preemption(40)).settle().reap().settle()

    assert during == (True, "Suspending")
    assert (names(world), world.status.phase) == (["bot-1"], "Queued")


def test_an_evicted_job_saves_and_gives_the_quota_back_when_its_pods_are_gone():
    """Not before: the job that takes its place would find the GPUs in use. Then it queues again and resumes."""
    world = running().kueue("bot-0", admitted=False, evicted="Preempted to accommodate a workload").settle()
    during = (names(world), world.pods["bot-0-0"].deleting, world.condition("Suspended")[1])
    world.end("bot-0-0", 85, a_preemption(40)).settle().reap().settle()
    after = (names(world), world.status.phase, [entry.number for entry in world.attempts])
    world.kueue("bot-1", admitted=True).settle()

    assert during == (["bot-0"], True, "Suspending")
    assert after == (["bot-1"], "Queued", [0, 1])
    assert world.attempts[1].first_step == 40
    assert "bot-1-0" in world.pods
    assert world.status.attempts_without_progress == 0


def test_a_suspended_job_gives_its_quota_back():
    """Nothing of it waits in the queue until it is resumed."""
    world = running().edit(suspend=True).settle().end("bot-0-0", 85, a_preemption(40)).settle().reap().settle()
    suspended = names(world)
    world.edit(suspend=False).settle()

    assert suspended == []
    assert names(world) == ["bot-1"]


def test_a_deactivated_workload_is_not_replaced():
    """An administrator has stopped the job: it says how it goes on."""
    world = running().kueue("bot-0", admitted=False, active=False, evicted="The workload is deactivated").settle()
    world.end("bot-0-0", 85, a_preemption(40)).settle().reap().settle()
    stopped = (names(world), world.condition("Reconciling")[2])
    world.kueue("bot-0", active=True, evicted="").settle()

    assert stopped == (
        ["bot-0"],
        "Workload bot-0 is deactivated: set its spec.active to true, or delete it, to queue the job again",
    )
    assert names(world) == ["bot-1"]


def test_the_workload_of_a_job_that_is_done_is_finished():
    """Kueue counts it, and gives its quota to the next."""
    world = running().end("bot-0-0", 0, published()).settle()

    assert world.decision is not None
    assert [(each.name, each.reason) for each in world.decision.finish] == [("bot-0", "Succeeded")]
    world.kueue("bot-0", finished=True).settle()
    assert world.decision.finish == ()


def test_a_cluster_without_kueue_is_said_and_waited_for():
    """Installed later, it is used at once."""
    world = a_world(pool=POOL, queueName="train")
    world.queue = Queue(
        unavailable="Kueue is not installed in this cluster: install it, or delete the job and apply it without queueName"
    )
    world.settle().run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()
    said = world.condition("Reconciling")
    world.queue = Queue(read=True)
    world.settle()

    assert said == (
        "True", "QueueUnavailable",
        "spec.queueName is train, but Kueue is not installed in this cluster: install it, or delete the job and apply it without queueName",
    )  # fmt: skip
    assert names(world) == ["bot-0"]


def test_a_running_job_outlives_kueue():
    """Who removes Kueue takes no GPU from anybody."""
    world = running()
    world.queue = Queue(unavailable="Kueue is not installed in this cluster")
    world.settle()

    assert world.status.phase == "Training"


def test_a_job_without_a_queue_has_no_workload():
    """Nothing changes where nobody asks for it."""
    world = a_world(pool=POOL).settle().run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()

    assert (names(world), "bot-0-0" in world.pods) == ([], True)


def test_a_changed_priority_class_takes_effect_while_the_job_waits():
    """The label of the job is what users can change."""
    world = queued().kueue("bot-0", pending=FULL).settle()
    metadata = world.job.metadata.model_copy(update={"labels": {"kueue.x-k8s.io/priority-class": "urgent"}})
    world.job = world.job.model_copy(update={"metadata": metadata})
    world.one_pass()
    gone = names(world)
    world.one_pass()

    assert (gone, names(world)) == ([], ["bot-0"])
    assert world.manifests["Workload bot-0"]["spec"]["priorityClassRef"] == {
        "group": "kueue.x-k8s.io", "kind": "WorkloadPriorityClass", "name": "urgent",
    }  # fmt: skip
