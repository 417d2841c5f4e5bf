"""Jobs in a queue of the real Kueue: admitted, waiting, evicted by a job of higher priority, finished."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.client import ApiError, Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import GPU_NODE, LABEL, POOL, Play, a_job, preempted, training_succeeds
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_rbac import install, refused
from tests.cluster.test_controller_runs import attempts, jobs, pods, reaches
from tests.gitops.kueue import API, kueue, queues
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.gitops

RESOURCES = ("nvidia.com/gpu", "cpu", "memory", "ephemeral-storage")


@pytest.fixture(scope="module")
def manager(api: Client, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kueue, installed and ready."""
    with kueue(api, control_plane, tmp_path_factory.mktemp("kueue")):
        yield


@pytest.fixture
def queue(manager: None, api: Client, control_plane: ControlPlane, namespace: str) -> str:
    """A LocalQueue with eight GPUs."""
    control_plane.apply(*queues(8, namespace, {LABEL: GPU_NODE}, RESOURCES))
    return "train"


def workloads(namespace: str) -> str:
    return f"{API}/namespaces/{namespace}/workloads"


def queued(name: str, gpus: int, priority: str = "", **spec: object) -> Raw:
    job = a_job(
        name, queueName="train", resources={"pools": [POOL], "gpus": gpus}, training={"globalBatchSize": 32}, **spec
    )
    if priority:
        job["metadata"]["labels"] = {"kueue.x-k8s.io/priority-class": priority}
    return job


def said(api: Client, namespace: str, name: str) -> tuple[str, str, str]:
    """Return phase, reason and message of a job."""
    status = api.get(f"{jobs(namespace)}/{name}").get("status", {})
    found = next((each for each in status.get("conditions", ()) if each["type"] == "Reconciling"), {})
    return status.get("phase", ""), found.get("reason", ""), found.get("message", "")


def reserved(api: Client, namespace: str) -> int:
    """Return the GPUs that the ClusterQueue has given out."""
    status = api.get(f"{API}/clusterqueues/queue-{namespace}").get("status", {})
    flavors = status.get("flavorsReservation") or [{"resources": []}]
    return sum(int(each["total"]) for each in flavors[0]["resources"] if each["name"] == "nvidia.com/gpu")


def test_jobs_run_as_the_queue_has_room(
    api: Client, standin: StandIn, namespace: str, queue: str, start_operator: StartOperator
):
    """The second waits with Kueue's own words and has no Pod; it runs on the flavor's nodes when the first has ended."""
    standin.scripts["first"] = {"0": Play(hold=True)}
    start_operator().start()
    api.create(jobs(namespace), queued("first", 8))
    reaches(api, namespace, "first", "Training")
    api.create(jobs(namespace), queued("second", 4))
    eventually(lambda: "position 1: couldn't" in said(api, namespace, "second")[2], "the second waits", 60)
    api.create(jobs(namespace), queued("third", 4))
    eventually(lambda: "position 2:" in said(api, namespace, "third")[2], "the third waits behind the second", 60)
    waiting = said(api, namespace, "second")
    trainers = [
        pod["metadata"]["name"] for pod in api.items(pods(namespace), labelSelector="finetune.dev/role=trainer")
    ]
    selector = api.get(f"{pods(namespace)}/first-0-0")["spec"]["nodeSelector"]
    api.patch(f"{jobs(namespace)}/first", {"spec": {"suspend": True}})
    reaches(api, namespace, "second", "Succeeded")
    reaches(api, namespace, "third", "Succeeded")

    assert waiting == (
        "Queued", "Queued",
        "queue train, position 1: couldn't assign flavors to pod set trainer: insufficient unused quota for nvidia.com/gpu in flavor "
        f"queue-{namespace}, 4 more needed",
    )  # fmt: skip
    assert trainers == ["first-0-0"]
    assert selector == {LABEL: GPU_NODE}

    def finished() -> bool:
        conditions = api.get(f"{workloads(namespace)}/second-0")["status"]["conditions"]
        return any(each["type"] == "Finished" and each["reason"] == "Succeeded" for each in conditions)

    eventually(finished, "Kueue counts the job as finished", 30)
    eventually(lambda: reserved(api, namespace) == 0, "all quota is given back", 30)


def test_an_evicted_job_saves_gives_back_and_resumes(
    api: Client,
    control_plane: ControlPlane,
    standin: StandIn,
    namespace: str,
    queue: str,
    start_operator: StartOperator,
):
    """A job of higher priority takes the GPUs: the first one saves a checkpoint, queues again and goes on from it."""
    kind = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "WorkloadPriorityClass"}
    control_plane.apply({**kind, "metadata": {"name": "urgent"}, "value": 1000})
    standin.scripts["patient"] = {"0": Play(hold=True), "sigterm": preempted(40), "1": training_succeeds()}
    standin.scripts["urgent"] = {"0": training_succeeds(3)}
    start_operator().start()
    api.create(jobs(namespace), queued("patient", 8))
    reaches(api, namespace, "patient", "Training")
    api.create(jobs(namespace), queued("urgent", 8, priority="urgent"))
    eventually(lambda: said(api, namespace, "urgent")[0] == "Training", "the urgent job runs", 90)
    gone = api.find(f"{pods(namespace)}/patient-0-0")
    names = {each["metadata"]["name"] for each in api.items(workloads(namespace))}
    reaches(api, namespace, "urgent", "Succeeded")
    job = reaches(api, namespace, "patient", "Succeeded")

    assert gone is None or gone["status"]["phase"] in ("Succeeded", "Failed")
    assert "patient-0" not in names
    assert [number for number, _ in attempts(job)] == [0, 1]
    assert job["status"]["attempts"][1]["firstStep"] == 40


def test_a_class_that_does_not_exist_is_named(
    api: Client, standin: StandIn, namespace: str, queue: str, start_operator: StartOperator
):
    """The job waits until somebody creates it."""
    start_operator().start()
    api.create(jobs(namespace), queued("typo", 1, priority="urgnet"))
    eventually(
        lambda: "WorkloadPriorityClass urgnet does not exist" in said(api, namespace, "typo")[2], "it is said", 60
    )


def test_a_queue_that_does_not_exist_is_named_by_kueue(
    api: Client, standin: StandIn, namespace: str, manager: None, start_operator: StartOperator
):
    """Created later, the queue admits the job."""
    start_operator().start()
    job = queued("early", 1)
    api.create(jobs(namespace), job)
    eventually(lambda: "LocalQueue train doesn't exist" in said(api, namespace, "early")[2], "Kueue says so", 60)
    for each in queues(8, namespace, {LABEL: GPU_NODE}, RESOURCES):
        within = f"/namespaces/{namespace}" if each["kind"] == "LocalQueue" else ""
        api.create(f"{API}{within}/{each['kind'].lower()}s", each)

    reaches(api, namespace, "early", "Succeeded")


def test_a_job_of_multikueue_is_left_alone(
    api: Client, standin: StandIn, namespace: str, queue: str, start_operator: StartOperator
):
    """Its worker cluster runs it: no Pod, no status of ours."""
    start_operator().start()
    api.create(jobs(namespace), queued("elsewhere", 1, managedBy="kueue.x-k8s.io/multikueue"))
    api.create(jobs(namespace), queued("here", 1))
    reaches(api, namespace, "here", "Succeeded")

    assert api.get(f"{jobs(namespace)}/elsewhere")["status"] == {"observedGeneration": 0}
    with pytest.raises(ApiError):
        api.get(f"{pods(namespace)}/elsewhere-preflight-1")


def test_the_charts_rights_are_enough(  # noqa: PLR0917 - fixtures
    api: Client, control_plane: ControlPlane, standin: StandIn, namespace: str, queue: str, start_operator: StartOperator,
    tmp_path: Path, free_port: int,
):  # fmt: skip
    """An operator with rbac.kueue runs a job through the queue; none of its requests is refused."""
    control_plane.apply({
        "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "WorkloadPriorityClass", "metadata": {"name": "usual"}, "value": 10,
    })  # fmt: skip
    options = (f"--set=metrics.port={free_port}", f"--set=namespaces={{{namespace}}}", "--set=rbac.kueue=true")
    mine = install(api, control_plane, namespace, tmp_path, *options)
    start_operator(*mine.arguments, kubeconfig=mine.kubeconfig, everywhere=True).start()
    api.create(jobs(namespace), queued("one", 2, priority="usual"))
    reaches(api, namespace, "one", "Succeeded")
    eventually(lambda: reserved(api, namespace) == 0, "all quota is given back", 30)

    assert refused(free_port) == []
