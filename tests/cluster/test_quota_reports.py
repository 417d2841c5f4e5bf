"""What users of other training operators have reported about quotas, tried with ours on the real API server."""

import pytest

from tests.cluster.client import Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import Play, a_job, a_pool, preempted
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, pods, reaches
from tests.cluster.test_quotas import GPUS, a_quota, asking, quotas
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


def condition(api: Client, namespace: str, name: str) -> Raw:
    status = api.get(f"{jobs(namespace)}/{name}").get("status", {})
    return next((each for each in status.get("conditions", ()) if each["type"] == "Reconciling"), {})


def test_a_quota_that_demands_every_request_and_limit_is_satisfied(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """`must specify cpu, memory`: preflight and trainer state all of them."""
    demanded = ("requests.cpu", "limits.cpu", "requests.memory", "limits.memory", "requests.ephemeral-storage")
    api.create(quotas(namespace), a_quota(**dict.fromkeys((*demanded, "limits.ephemeral-storage"), "4Ti"), pods="10"))
    start_operator().start()
    api.create(jobs(namespace), a_job("one"))

    assert len(reaches(api, namespace, "one", "Succeeded")["status"]["plan"]["quotas"]) == 1


def test_a_gang_never_holds_part_of_a_quota(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """Twelve of sixteen GPUs are free: not even one of the two Pods stays, so that a smaller job can run."""
    api.create(quotas(namespace), a_quota(**{GPUS: "16"}))
    standin.scripts["part"] = {"0": Play(hold=True)}
    start_operator().start()
    api.create(jobs(namespace), a_job("part", **asking(4)))
    reaches(api, namespace, "part", "Training")
    api.create(jobs(namespace), a_job("gang", **asking(16)))
    eventually(lambda: condition(api, namespace, "gang").get("reason") == "QuotaExceeded", "the gang is refused", 60)

    def left() -> list[str]:
        found = api.items(pods(namespace), labelSelector="finetune.dev/job-name=gang,finetune.dev/role=trainer")
        return [each["metadata"]["name"] for each in found]

    eventually(lambda: left() == [], "no Pod of the gang is left", 30)
    assert "in use by job part (4 GPUs)" in condition(api, namespace, "gang")["message"]


def test_a_quota_of_a_priority_class_bounds_only_its_jobs(
    api: Client, control_plane: ControlPlane, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """The other jobs have no quota."""
    control_plane.apply({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "cheap"}, "value": 1,
    })  # fmt: skip
    quota = a_quota(**{GPUS: "1"})
    term = {"scopeName": "PriorityClass", "operator": "In", "values": ["cheap"]}
    quota["spec"]["scopeSelector"] = {"matchExpressions": [term]}
    api.create(quotas(namespace), quota)
    start_operator().start()
    api.create(jobs(namespace), a_job("cheap", priorityClassName="cheap", **asking(2)))
    api.create(jobs(namespace), a_job("usual", **asking(2)))
    reaches(api, namespace, "usual", "Succeeded")
    refused = reaches(api, namespace, "cheap", "Failed")["status"]["conditions"]

    assert any("needs 2 GPUs (quota team-a allows 1)" in each["message"] for each in refused)


def test_a_quota_that_counts_objects_counts_finished_pods(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """count/pods of 2 is enough for preflight and one trainer, not for a gang of two."""
    api.create(quotas(namespace), a_quota(**{"count/pods": "2"}))
    start_operator().start()
    api.create(jobs(namespace), a_job("one", **asking(2)))
    reaches(api, namespace, "one", "Succeeded")
    status = eventually(lambda: api.get(f"{quotas(namespace)}/team-a").get("status", {}).get("used"), "it is counted")

    assert status["count/pods"] == "2"


def test_a_quota_created_while_a_job_runs_ends_nothing(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """The next job is bounded, the running one resumes from its checkpoint when it has to stop for another reason."""
    standin.scripts["early"] = {"0": Play(hold=True), "sigterm": preempted(10)}
    start_operator().start()
    api.create(jobs(namespace), a_job("early", **asking(8)))
    reaches(api, namespace, "early", "Training")
    api.create(quotas(namespace), a_quota(**{GPUS: "4"}))
    api.create(jobs(namespace), a_job("late", **asking(8)))
    reaches(api, namespace, "late", "Failed")
    running = api.get(f"{jobs(namespace)}/early")["status"]["phase"]
    api.patch(f"{jobs(namespace)}/early", {"spec": {"suspend": True}})
    reaches(api, namespace, "early", "Suspended")
    api.patch(f"{jobs(namespace)}/early", {"spec": {"suspend": False}})
    eventually(
        lambda: condition(api, namespace, "early").get("reason") == "QuotaExceeded", "it waits for the quota", 60
    )

    assert running == "Training"


def test_a_mesh_label_reaches_every_pod(api: Client, standin: StandIn, namespace: str, start_operator: StartOperator):
    """Istio reads a label of the Pod; a label of the job alone would do nothing."""
    start_operator().start()
    labels = [{"key": "sidecar.istio.io/inject", "value": "false"}]
    api.create(jobs(namespace), a_job("meshed", podMetadata={"labels": labels}))
    reaches(api, namespace, "meshed", "Succeeded")

    found = {each["metadata"]["name"]: each["metadata"]["labels"] for each in api.items(pods(namespace))}
    assert {name: each["sidecar.istio.io/inject"] for name, each in found.items()} == {
        "meshed-preflight-1": "false",
        "meshed-0-0": "false",
    }


def test_a_pool_without_a_price_takes_no_job_with_a_budget(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """A limit that never counts is none: said before a GPU is used."""
    free = a_pool()
    free["metadata"]["name"] = "free"
    free["spec"]["pricePerGPUHourUSD"] = "0"
    api.ensure("/apis/finetune.dev/v1alpha1/gpupools", free)
    start_operator().start()
    job = a_job("costly", resources={"pools": ["free"]}, runPolicy={"budget": {"maxCostUSD": "5.00"}})
    api.create(jobs(namespace), job)
    refused = reaches(api, namespace, "costly", "Failed")["status"]["conditions"]
    api.delete("/apis/finetune.dev/v1alpha1/gpupools/free")

    assert any("runPolicy.budget needs a price" in each["message"] for each in refused)
