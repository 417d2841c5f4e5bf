"""What users of Kueue with other training operators reported, tried with ours: quota that stays reserved, Workloads left behind."""

from collections.abc import Iterator

import pytest

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import Play, preempted, training_fails
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, pods, reaches
from tests.gitops.kueue import API, kueue
from tests.gitops.test_kueue import queue, queued, reserved, said, workloads
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.gitops

__all__ = ["queue"]


@pytest.fixture(scope="module")
def manager(api: Client, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kueue, installed and ready."""
    with kueue(api, control_plane, tmp_path_factory.mktemp("kueue")):
        yield


@pytest.fixture
def begun(api: Client, standin: StandIn, namespace: str, queue: str, start_operator: StartOperator) -> str:
    """The name of a job that trains on all eight GPUs until it is told to end."""
    name = f"held-{namespace}"
    standin.scripts[name] = {"0": Play(hold=True), "1": Play(hold=True), "sigterm": preempted(40)}
    start_operator().start()
    api.create(jobs(namespace), queued(name, 8))
    reaches(api, namespace, name, "Training")
    return name


def free(api: Client, namespace: str) -> None:
    eventually(lambda: reserved(api, namespace) == 0, "all quota is given back", 60)


def names(api: Client, namespace: str) -> set[str]:
    return {each["metadata"]["name"] for each in api.items(workloads(namespace))}


def test_a_deactivated_workload_ends_its_pods_and_stays_so(api: Client, namespace: str, begun: str):
    """The job says how it goes on, and goes on when the Workload is active again."""
    api.patch(f"{workloads(namespace)}/{begun}-0", {"spec": {"active": False}})
    eventually(lambda: "is deactivated: set its spec.active" in said(api, namespace, begun)[2], "it is said", 60)
    trainers = api.items(pods(namespace), labelSelector="finetune.dev/role=trainer")
    running = [each for each in trainers if each["status"]["phase"] == "Running"]
    free(api, namespace)
    api.patch(f"{workloads(namespace)}/{begun}-0", {"spec": {"active": True}})
    eventually(lambda: said(api, namespace, begun)[0] == "Training", "it runs again", 60)

    assert running == []
    assert names(api, namespace) == {f"{begun}-1"}


def test_a_stopped_queue_drains_a_running_job(api: Client, namespace: str, begun: str):
    """HoldAndDrain: a checkpoint is saved, the quota is free, and the job waits for the queue."""
    api.patch(f"{API}/namespaces/{namespace}/localqueues/train", {"spec": {"stopPolicy": "HoldAndDrain"}})
    eventually(lambda: said(api, namespace, begun)[0] == "Queued", "the job is back in the queue", 60)
    free(api, namespace)
    api.patch(f"{API}/namespaces/{namespace}/localqueues/train", {"spec": {"stopPolicy": "None"}})
    eventually(lambda: said(api, namespace, begun)[0] == "Training", "it runs again", 60)

    attempts = api.get(f"{jobs(namespace)}/{begun}")["status"]["attempts"]
    assert [each.get("outcome") for each in attempts] == ["Suspended", None]


def test_a_deleted_job_leaves_no_workload(api: Client, namespace: str, begun: str):
    """Neither quota nor objects stay behind."""
    api.delete(f"{jobs(namespace)}/{begun}", propagationPolicy="Background")
    eventually(lambda: names(api, namespace) == set(), "no Workload is left", 90)
    free(api, namespace)


def test_a_failed_job_gives_its_quota_back(
    api: Client, standin: StandIn, namespace: str, queue: str, start_operator: StartOperator
):
    """Its Workload is finished as failed while the job stays to be looked at."""
    standin.scripts["fails"] = {"0": training_fails("LossDiverged", "the loss rose", exit_code=87)}
    start_operator().start()
    api.create(jobs(namespace), queued("fails", 4))
    reaches(api, namespace, "fails", "Failed")
    free(api, namespace)

    def end() -> str:
        conditions = api.get(f"{workloads(namespace)}/fails-0")["status"]["conditions"]
        return next((each["reason"] for each in conditions if each["type"] == "Finished"), "")

    assert eventually(end, "the Workload is finished", 30) == "Failed"


def test_a_job_that_starts_suspended_is_not_in_the_queue(
    api: Client, standin: StandIn, namespace: str, queue: str, start_operator: StartOperator
):
    """It would hold quota that nobody uses."""
    start_operator().start()
    api.create(jobs(namespace), queued("asleep", 8, suspend=True))
    api.create(jobs(namespace), queued("awake", 8))
    reaches(api, namespace, "awake", "Succeeded")

    assert names(api, namespace) == {"awake-0"}
    assert said(api, namespace, "asleep")[0] == "Suspended"


def test_a_priority_label_that_is_added_later_counts(
    api: Client, control_plane: ControlPlane, standin: StandIn, namespace: str, begun: str
):
    """The waiting job becomes urgent, and takes the place of the running one."""
    kind = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "WorkloadPriorityClass"}
    control_plane.apply({**kind, "metadata": {"name": "raised"}, "value": 500})
    api.create(jobs(namespace), queued("later", 8))
    eventually(lambda: "insufficient unused quota" in said(api, namespace, "later")[2], "it waits", 60)
    api.patch(f"{jobs(namespace)}/later", {"metadata": {"labels": {"kueue.x-k8s.io/priority-class": "raised"}}})
    reaches(api, namespace, "later", "Succeeded")

    assert said(api, namespace, begun)[0] in ("Queued", "Planned", "Training")
    assert [each["number"] for each in api.get(f"{jobs(namespace)}/{begun}")["status"]["attempts"]] in ([0, 1], [0])


def test_what_the_queue_does_not_cover_is_named(
    api: Client,
    control_plane: ControlPlane,
    standin: StandIn,
    namespace: str,
    queue: str,
    start_operator: StartOperator,
):
    """A ClusterQueue of GPUs only: Kueue's words reach the user."""
    path = f"{API}/clusterqueues/queue-{namespace}"
    group = api.get(path)["spec"]["resourceGroups"][0]
    only = {
        "coveredResources": ["nvidia.com/gpu"],
        "flavors": [
            {**each, "resources": [r for r in each["resources"] if r["name"] == "nvidia.com/gpu"]}
            for each in group["flavors"]
        ],
    }
    api.patch(path, {"spec": {"resourceGroups": [only]}})
    start_operator().start()
    api.create(jobs(namespace), queued("uncovered", 1))

    eventually(
        lambda: "unavailable in ClusterQueue" in said(api, namespace, "uncovered")[2], "Kueue's words are shown", 60
    )


def test_an_operator_that_restarts_finds_its_workload(
    api: Client, standin: StandIn, namespace: str, queue: str, start_operator: StartOperator
):
    """Neither a second Workload nor a second attempt: the job waits on, and runs when there is room."""
    holder, waiter = f"a-{namespace}", f"b-{namespace}"
    standin.scripts[holder] = {"0": Play(hold=True), "sigterm": preempted(3)}
    first = start_operator()
    first.start()
    api.create(jobs(namespace), queued(holder, 8))
    reaches(api, namespace, holder, "Training")
    api.create(jobs(namespace), queued(waiter, 8))
    eventually(lambda: "insufficient unused quota" in said(api, namespace, waiter)[2], "it waits", 60)
    before = {each["metadata"]["uid"] for each in api.items(workloads(namespace))}
    first.close()
    api.delete(f"{jobs(namespace)}/{holder}", propagationPolicy="Background")
    eventually(
        lambda: names(api, namespace) == {f"{waiter}-0"}, "the deleted job leaves the queue without an operator", 90
    )
    start_operator().start()
    job = reaches(api, namespace, waiter, "Succeeded")

    assert {each["metadata"]["uid"] for each in api.items(workloads(namespace))} < before
    assert [each["number"] for each in job["status"]["attempts"]] == [0]


def test_a_queue_is_no_way_around_the_policy(
    api: Client, standin: StandIn, namespace: str, queue: str, start_operator: StartOperator
):
    """Jobs with a queue count towards the GPUs of the team: the second has no Workload before the first has ended."""
    policy = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTunePolicy", "metadata": {"name": "default"}}
    limits = {"limits": {"gpus": 4}, "defaults": {"queueName": "train"}, "require": {"queue": True}}
    api.create(f"/apis/finetune.dev/v1alpha1/namespaces/{namespace}/finetunepolicies", {**policy, "spec": limits})
    holder, waiter = f"c-{namespace}", f"d-{namespace}"
    standin.scripts[holder] = {"0": Play(hold=True), "sigterm": preempted(3)}
    start_operator().start()
    for name in (holder, waiter):
        job = queued(name, 4)
        del job["spec"]["queueName"]
        api.create(jobs(namespace), job)
        if name == holder:
            reaches(api, namespace, holder, "Training")
    eventually(lambda: said(api, namespace, waiter)[1] == "PolicyLimit", "the second waits for its turn", 60)

    assert names(api, namespace) == {f"{holder}-0"}


def test_a_gang_is_admitted_as_a_whole_or_not_at_all(
    api: Client, standin: StandIn, namespace: str, queue: str, start_operator: StartOperator
):
    """Two Pods of eight GPUs in a queue of eight: not one of them is created, and Kueue's figures are shown."""
    start_operator().start()
    api.create(jobs(namespace), queued("wide", 16))
    eventually(lambda: "maximum capacity" in said(api, namespace, "wide")[2], "Kueue says why", 60)
    trainers = api.items(pods(namespace), labelSelector="finetune.dev/role=trainer")

    assert trainers == []
    assert "current podset request (16) > maximum capacity (8)" in said(api, namespace, "wide")[2]


def test_a_namespace_that_the_queue_does_not_serve_is_told(
    api: Client, standin: StandIn, namespace: str, queue: str, start_operator: StartOperator
):
    """The selector of the ClusterQueue names another namespace."""
    selector = {"matchLabels": {"kubernetes.io/metadata.name": "another"}}
    api.patch(f"{API}/clusterqueues/queue-{namespace}", {"spec": {"namespaceSelector": selector}})
    start_operator().start()
    api.create(jobs(namespace), queued("stranger", 1))

    words = "workload namespace doesn't match ClusterQueue selector"
    eventually(lambda: words in said(api, namespace, "stranger")[2], "it is said", 60)
