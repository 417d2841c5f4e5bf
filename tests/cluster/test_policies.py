"""FineTunePolicy on the real API server: what it refuses, what it makes wait, and what it counts."""

import pytest

from tests.cluster.client import FINETUNE, ApiError, Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import POOL, Play, a_job, training_succeeds
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, reaches
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


def policies(namespace: str) -> str:
    return f"{FINETUNE}/namespaces/{namespace}/finetunepolicies"


def a_policy(name: str = "default", **spec: object) -> Raw:
    kind = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTunePolicy"}
    return {**kind, "metadata": {"name": name}, "spec": {"contact": "#ml-platform", **spec}}


def asking(gpus: int) -> Raw:
    return {"resources": {"pools": [POOL], "gpus": gpus}, "training": {"globalBatchSize": 32}}


def said(job: Raw) -> tuple[str, str]:
    found = next(each for each in job["status"]["conditions"] if each["type"] == "Succeeded")
    return found["reason"], found["message"]


def test_a_namespace_has_one_policy(api: Client, namespace: str):
    """Its name says so: two would have to be merged."""
    with pytest.raises(ApiError, match="must be default: a namespace has one FineTunePolicy"):
        api.create(policies(namespace), a_policy("other"))


def test_a_violation_is_said_and_looked_at_again(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """Nothing is created for the refused job; it runs when the policy allows it, without being applied again."""
    api.create(policies(namespace), a_policy(allow={"destinations": ["s3://elsewhere/"]}))
    start_operator().start()
    api.create(jobs(namespace), a_job("one"))
    refused = said(reaches(api, namespace, "one", "Failed"))
    api.patch(f"{policies(namespace)}/default", {"spec": {"allow": {"destinations": ["s3://bucket/"]}}})
    reaches(api, namespace, "one", "Succeeded")

    assert refused == (
        "PolicyViolation",
        "spec.output.destination s3://bucket/one is not an allowed destination (allow.destinations: s3://elsewhere/): FineTunePolicy "
        f"default of namespace {namespace}, which #ml-platform can change",
    )


def test_jobs_take_turns_and_the_policy_shows_who_uses_what(
    api: Client, control_plane: ControlPlane, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """Three jobs at once on eight GPUs of the team: two run, never three, and the third starts when one has ended."""
    api.create(policies(namespace), a_policy(limits={"gpus": 8}, defaults={"labels": [{"key": "team", "value": "a"}]}))
    names = ("turn-1", "turn-2", "turn-3")
    for name in names:
        standin.scripts[name] = {"0": Play(hold=True)}
    start_operator().start()
    for name in names:
        api.create(jobs(namespace), a_job(name, **asking(4)))

    def phases() -> dict[str, str]:
        return {
            each["metadata"]["name"]: said(each)[0]
            for each in api.items(jobs(namespace))
            if each.get("status", {}).get("conditions")
        }

    eventually(lambda: sorted(phases().values()) == ["PolicyLimit", "Running", "Running"], "two run, one waits", 60)
    policy = eventually(
        lambda: (found := api.get(f"{policies(namespace)}/default")).get("status", {}).get("runningJobs") == 2 and found,
        "the policy counts them", 30,
    )  # fmt: skip
    shown = control_plane.kubectl("get", "ftp", "-n", namespace).stdout.splitlines()
    running = [name for name, reason in phases().items() if reason == "Running"]
    waiting = next(name for name in names if name not in running)
    words = said(api.get(f"{jobs(namespace)}/{waiting}"))[1]
    labels = {pod["metadata"]["labels"]["team"] for pod in api.items(f"/api/v1/namespaces/{namespace}/pods")}
    api.patch(f"{jobs(namespace)}/{running[0]}", {"spec": {"suspend": True}})
    reaches(api, namespace, waiting, "Training")

    assert (policy["status"]["gpusInUse"], policy["status"]["runningJobs"]) == (8, 2)
    assert shown[0].split() == ["NAME", "JOBS", "MAX-JOBS", "GPUS", "MAX-GPUS", "MONTH", "SPENT", "MAX-COST", "AGE"]
    assert words.startswith("needs 4 GPUs, and 8 are in use by ")
    assert labels == {"a"}


def test_the_money_of_a_deleted_job_stays_spent(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """The ledger has the job by its uid after it is gone."""
    api.create(policies(namespace), a_policy(limits={"costPerMonthUSD": "1000.00"}))
    standin.scripts["brief"] = {"0": training_succeeds(3)}
    start_operator().start()
    made = api.create(jobs(namespace), a_job("brief", **asking(8)))
    reaches(api, namespace, "brief", "Succeeded")

    def spent() -> str:
        cost = str(api.get(f"{jobs(namespace)}/brief")["status"]["cost"]["costUSD"])
        told = api.get(f"{policies(namespace)}/default").get("status", {}).get("spentUSD")
        return cost if told == cost else ""

    cost = eventually(spent, "the cost is in the ledger")
    api.delete(f"{jobs(namespace)}/brief")
    eventually(lambda: api.find(f"{jobs(namespace)}/brief") is None, "the job is gone")
    api.create(jobs(namespace), a_job("other"))
    reaches(api, namespace, "other", "Succeeded")
    after = api.get(f"{policies(namespace)}/default")["status"]

    assert float(cost) > 0
    assert {"uid": made["metadata"]["uid"], "job": "brief", "costUSD": cost, "earlierUSD": "0.00"} in after["jobs"]
