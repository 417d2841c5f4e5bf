"""Jobs that come back without a part of themselves, as from a backup: nothing runs twice, and nothing is billed that ran elsewhere."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.cluster.client import FINETUNE, GARBAGE_SECONDS, Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.kubelet import POOL, Kubelet, ended, is_deleted
from tests.cluster.plays import preempted

pytestmark = pytest.mark.cluster

REFUSED_SECONDS = 75
"""A refused Pod is tried again after 30 to 40 s; the job has two, one after the other."""


def second_attempt(kubelet: Kubelet, name: str) -> Raw:
    """Bring a job to its second attempt, the Pod of the first one being gone; return the Pod that runs."""
    kubelet.apply(name)
    kubelet.run(f"{name}-0-0")
    kubelet.status(f"{name}-0-0", "Failed", {"trainer": ended(preempted(9))})
    kubelet.attempt(name, 0)
    kubelet.remove(f"{name}-0-0")
    pod = kubelet.run(f"{name}-1-0")
    kubelet.says(name, "attempt 2 is running")
    return pod


def test_a_status_that_is_lost_starts_nothing_beside_what_runs(
    api: Client, kubelet: Kubelet, start_operator: StartOperator
):
    """Somebody replaces the status, as a restore does: the Pod of attempt 2 is attempt 2, and trains on alone."""
    start_operator().start()
    pod = second_attempt(kubelet, "wiped")

    api.request("PUT", f"{kubelet.jobs}/wiped/status", kubelet.job("wiped") | {"status": {}})

    eventually(lambda: kubelet.job("wiped").get("status", {}).get("planName"), "the job is planned again")
    kubelet.says("wiped", "attempt 2 is running")
    trainers = api.items(
        f"/api/v1/namespaces/{kubelet.namespace}/pods",
        labelSelector="finetune.dev/job-name=wiped,finetune.dev/role=trainer",
    )
    assert [each["metadata"]["uid"] for each in trainers] == [pod["metadata"]["uid"]]
    assert [each["number"] for each in kubelet.job("wiped")["status"]["attempts"]] == [1]


def test_pods_that_a_former_job_left_behind_are_waited_for(
    api: Client, kubelet: Kubelet, start_operator: StartOperator
):
    """`kubectl delete --cascade=orphan`: the Pod trains on, and the job that is applied again says what holds it; then it goes on."""
    start_operator().start()
    former = kubelet.apply("left")["metadata"]["uid"]
    kubelet.run("left-0-0")
    kubelet.says("left", "Running")

    api.delete(f"{kubelet.jobs}/left", propagationPolicy="Orphan")
    eventually(lambda: api.find(f"{kubelet.jobs}/left") is None, "the job is gone", GARBAGE_SECONDS)
    assert not is_deleted(api.get(kubelet.path("left-0-0")))
    kubelet.apply("left")

    kubelet.says(
        "left",
        "PodRefused: Pod left-preflight-1 was left behind by a former job of this name, which was deleted without its Pods or restored "
        "from a backup, and may still be running: this job continues as soon as `kubectl delete pods,services -n "
        f"{kubelet.namespace} -l finetune.dev/job-uid={former}` has removed it",
    )
    for pod in ("left-0-0", "left-preflight-1"):
        kubelet.remove(pod)
    eventually(lambda: api.find(kubelet.path("left-0-0")), "the job goes on", REFUSED_SECONDS)


def test_a_job_that_is_restored_with_its_status_pays_for_nothing_that_ran_elsewhere(
    api: Client, kubelet: Kubelet, start_operator: StartOperator
):
    """The backup is of a job that trained three days ago, on 8 GPUs with a budget of $20: it resumes, its Pods being gone."""
    operator = start_operator()
    operator.start()
    kubelet.apply("restored", runPolicy={"budget": {"maxCostUSD": "20"}}, resources={"pools": [POOL], "gpus": 8})
    kubelet.run("restored-0-0")
    kubelet.says("restored", "Running")
    operator.kill()
    backup = kubelet.job("restored")
    api.delete(f"{kubelet.jobs}/restored")
    for pod in ("restored-0-0", "restored-preflight-1"):
        kubelet.remove(pod)
    plans = f"{FINETUNE}/namespaces/{kubelet.namespace}/finetuneplans"
    eventually(lambda: not api.items(plans), "its plan is gone", GARBAGE_SECONDS)
    begun = (datetime.now(UTC) - timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    backup["status"]["attempts"][0] |= {"startTime": begun, "runningTime": begun, "gpuSeconds": 7200, "costUSD": "4.00"}

    made = api.create(
        kubelet.jobs, {key: backup[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "restored"}}
    )
    api.request("PUT", f"{kubelet.jobs}/restored/status", made | {"status": backup["status"]})
    operator.start()

    kubelet.run("restored-1-0")
    kubelet.says("restored", "attempt 2 is running")
    first = kubelet.attempt("restored", 0)
    assert (first["outcome"], first["gpuSeconds"], first["costUSD"]) == ("Killed", 7200, "4.00")
