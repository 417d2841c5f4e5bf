"""FineTunePlans on the real API server: never changed, found again after a crash, made again where they were deleted."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from finetune_operator.api.pinned import PARTS
from finetune_operator.manifests.plan import fine_tune_plan

from tests.cluster.client import FINETUNE, ApiError, Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.faults import FaultProxy
from tests.cluster.plays import POOL, Play, a_job
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import condition, jobs, pods, reaches
from tests.servers.control_plane import ControlPlane
from tests.unit.lifecycle.lifecycle_builders import a_job as any_job
from tests.unit.lifecycle.lifecycle_builders import a_pool as any_pool
from tests.unit.lifecycle.lifecycle_builders import pinned_status

pytestmark = pytest.mark.cluster

HOLDS: dict[str, Any] = {"train": Play(hold=True)}


def plans(namespace: str) -> str:
    return f"{FINETUNE}/namespaces/{namespace}/finetuneplans"


def a_plan(name: str = "some") -> Raw:
    """Return a FineTunePlan that a planner has made."""
    job = any_job()
    manifest = fine_tune_plan(job, pinned_status(job, any_pool()))
    return manifest | {"metadata": {"name": name}}


@pytest.mark.parametrize("part", ["preflight", "resolved", "plan"])
def test_a_plan_cannot_be_changed(api: Client, namespace: str, part: str):
    """Nor can a part of it be taken away; its labels can be changed."""
    api.create(plans(namespace), a_plan())
    path, why = f"{plans(namespace)}/some", "cannot be changed: it is the record that the Pods of its job run by"
    changes = {"preflight": {"examples": 1}, "resolved": {"method": "full"}, "plan": {"microBatchSize": 1}}
    for change in (changes[part], None):
        with pytest.raises(ApiError, match=why):
            api.patch(path, {part: change})

    assert api.patch(path, {"metadata": {"labels": {"team": "a"}}})["metadata"]["labels"] == {"team": "a"}


def test_a_job_owns_its_plan(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, control_plane: ControlPlane
):
    """kubectl shows what people ask of it; nothing of the whole plan is in the job, which kubectl describes in few lines."""
    start_operator().start()
    api.create(jobs(namespace), a_job("owner"))
    reaches(api, namespace, "owner", "Succeeded")
    job, (plan,) = api.get(f"{jobs(namespace)}/owner"), api.items(plans(namespace))
    shown = control_plane.kubectl("get", "ftpl", "-n", namespace, "--no-headers").stdout.split("  ")
    described = control_plane.kubectl("describe", "ftj", "owner", "-n", namespace).stdout.splitlines()

    assert plan["metadata"]["name"] == job["status"]["planName"]
    assert [each["uid"] for each in plan["metadata"]["ownerReferences"]] == [job["metadata"]["uid"]]
    assert {"preflight", "resolved", "plan"} <= plan.keys()
    assert plan["plan"]["summary"] == job["status"]["plan"]["summary"]
    assert set(job["status"]["plan"]) <= {"summary", "pool", "replicas", "gpusPerReplica", "warnings"}
    assert not {"preflight", "resolved", "specDigest", "preflightGeneration"} & job["status"].keys()
    assert [each.strip() for each in shown if each.strip()][1:3] == ["owner", job["status"]["plan"]["summary"]]
    warned = ["Warnings:", *job["status"]["plan"]["warnings"]]
    assert len([line for line in described if line.strip() not in warned]) < 90


def test_a_plan_that_a_killed_operator_has_created_is_taken(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, proxy: FaultProxy
):
    """It was created, and the status that names it was never written."""
    operator, kills = start_operator(kubeconfig=proxy.operator_kubeconfig), []

    def lives(_number: int, when: str) -> bool:
        made = when == "after" and bool(api.items(plans(namespace)))
        if kills or not made or api.get(f"{jobs(namespace)}/orphaned")["status"].get("planName"):
            return True
        operator.kill()
        kills.append(when)
        return False

    proxy.around_write = lives
    operator.start()
    api.create(jobs(namespace), a_job("orphaned"))
    eventually(lambda: kills, "the operator was killed")
    operator.start()
    job = reaches(api, namespace, "orphaned", "Succeeded")

    assert [each["metadata"]["name"] for each in api.items(plans(namespace))] == [job["status"]["planName"]]


@pytest.fixture
def dearer(api: Client) -> Iterator[Callable[[], Raw]]:
    """Doubles the price of the pool, until the test is over."""
    path = f"{FINETUNE}/gpupools/{POOL}"
    price = api.get(path)["spec"]["pricePerGPUHourUSD"]
    yield lambda: api.patch(path, {"spec": {"pricePerGPUHourUSD": f"{2 * float(price):.2f}"}})
    api.patch(path, {"spec": {"pricePerGPUHourUSD": price}})


def test_a_plan_that_was_deleted_is_made_again_at_its_price(
    api: Client,
    standin: StandIn,
    namespace: str,
    start_operator: StartOperator,
    dearer: Callable[[], Raw],
):
    """The price of the pool changes while the plan is gone: the plan and its name are the same, and the attempt goes on."""
    standin.scripts["bereft"] = HOLDS
    operator = start_operator()
    operator.start()
    api.create(jobs(namespace), a_job("bereft"))
    job = reaches(api, namespace, "bereft", "Training")
    before = {each["metadata"]["uid"] for each in api.items(pods(namespace))}
    operator.kill()
    api.delete(f"{plans(namespace)}/{job['status']['planName']}")
    dearer()
    operator.start()
    again = eventually(lambda: api.find(f"{plans(namespace)}/{job['status']['planName']}"), "the plan is there again")

    assert {part: again[part] for part in PARTS} == {part: job["status"][part] for part in PARTS}
    assert {each["metadata"]["uid"] for each in api.items(pods(namespace))} == before


@pytest.mark.parametrize("begun", [False, True], ids=["before the first attempt", "while attempt 1 runs"])
def test_a_plan_that_was_deleted_is_made_again(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, begun: bool
):
    """By the next operator, from what preflight reported; the Pods that run stay."""
    standin.scripts["bereft"] = HOLDS
    operator = start_operator()
    operator.start()
    api.create(jobs(namespace), a_job("bereft", planOnly=not begun))
    job = reaches(api, namespace, "bereft", "Training" if begun else "Planned")
    before = {each["metadata"]["uid"] for each in api.items(pods(namespace))}
    operator.kill()
    api.delete(f"{plans(namespace)}/{job['status']['planName']}")
    operator.start()
    again = eventually(lambda: api.find(f"{plans(namespace)}/{job['status']['planName']}"), "the plan is there again")

    assert {part: again[part] for part in PARTS} == {part: job["status"][part] for part in PARTS}
    assert {each["metadata"]["uid"] for each in api.items(pods(namespace))} == before


def test_a_job_that_would_be_another_run_ends(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """Preflight finds other data than the attempt trains on: its Pod goes, and the job says why."""
    standin.scripts["changed"] = HOLDS
    operator = start_operator()
    operator.start()
    api.create(jobs(namespace), a_job("changed"))
    job = reaches(api, namespace, "changed", "Training")
    operator.kill()
    api.delete(f"{plans(namespace)}/{job['status']['planName']}")
    status = api.get(f"{jobs(namespace)}/changed")["status"] | {"runDigest": "sha256:" + "0" * 64}
    api.patch(f"{jobs(namespace)}/changed/status", {"status": status})
    operator.start()
    ended = reaches_without_plan(api, namespace, "changed")

    assert condition(ended, "Succeeded") == ("False", "PlanLost")


def reaches_without_plan(api: Client, namespace: str, name: str) -> Raw:
    def look() -> Raw | None:
        job = api.get(f"{jobs(namespace)}/{name}")
        return job if job["status"]["phase"] == "Failed" else None

    return eventually(look, f"{name} has failed")


def test_finished_jobs_cost_no_reads_of_plans(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, proxy: FaultProxy
):
    """An operator that starts beside them needs nothing of their plans, and writes nothing."""
    operator = start_operator(kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    for name in ("one", "two"):
        api.create(jobs(namespace), a_job(name))
    for name in ("one", "two"):
        reaches(api, namespace, name, "Succeeded")
    operator.terminate()
    proxy.calls.clear()
    operator.start()
    api.create(jobs(namespace), a_job("three"))
    reaches(api, namespace, "three", "Succeeded")

    assert [call for call in proxy.calls if call[0] == "GET" and "finetuneplans" in call[1]] == []


def test_a_plan_is_kept_as_it_was_sent(api: Client, namespace: str):
    """The operator compares both where the name is taken: nothing is filled in, and nothing dropped."""
    sent = a_plan()
    kept = api.create(plans(namespace), sent)

    assert {part: kept[part] for part in PARTS} == {part: sent[part] for part in PARTS}
