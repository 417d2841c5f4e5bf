"""Whose Pods and Services are the job's, and who takes care of them: finalizers of others, copies, changed labels."""

import pytest

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.kubelet import POOL, Kubelet, exited, is_deleted

pytestmark = pytest.mark.cluster


def test_the_pods_of_a_deleted_job_go_although_a_finalizer_holds_it(
    api: Client, kubelet: Kubelet, start_operator: StartOperator
):
    """The GPU is given back at once; the job says that it is being deleted, and who holds it."""
    start_operator().start()
    kubelet.apply("metered", meta={"finalizers": ["billing.example.com/meter"]})
    kubelet.run("metered-0-0")
    kubelet.says("metered", "Running")

    api.delete(f"{kubelet.jobs}/metered")

    kubelet.says(
        "metered",
        "Deleting: the job is being deleted and its Pods stop; finalizers that hold it: billing.example.com/meter",
    )
    kubelet.gone("metered-0-0")
    assert [each["metadata"]["name"] for each in api.items(f"/api/v1/namespaces/{kubelet.namespace}/pods")] == [
        "metered-preflight-1"
    ]


def test_the_service_of_a_running_gang_is_created_again(api: Client, kubelet: Kubelet, start_operator: StartOperator):
    """Somebody deletes it while the replicas train."""
    start_operator().start()
    kubelet.apply("gang", resources={"pools": [POOL], "gpus": 16}, training={"globalBatchSize": 16})
    for replica in range(2):
        kubelet.run(f"gang-0-{replica}")
    kubelet.says("gang", "Running")
    service = f"/api/v1/namespaces/{kubelet.namespace}/services/gang-0"
    uid = api.get(service)["metadata"]["uid"]

    api.delete(service)

    created = eventually(lambda: api.find(service), "the Service is created again")
    assert created["metadata"]["uid"] != uid
    assert [each.get("outcome") for each in kubelet.job("gang")["status"]["attempts"]] == [None]


def test_a_copy_of_a_replica_is_none(api: Client, kubelet: Kubelet, start_operator: StartOperator):
    """`kubectl debug --copy-to` keeps labels and owner: its end says nothing about the trainer."""
    start_operator().start()
    kubelet.apply("copied")
    pod = kubelet.run("copied-0-0")
    kubelet.says("copied", "Running")
    copy = {key: pod[key] for key in ("apiVersion", "kind", "spec")}
    kept = {key: pod["metadata"][key] for key in ("labels", "annotations", "ownerReferences")}
    api.create(f"/api/v1/namespaces/{kubelet.namespace}/pods", copy | {"metadata": kept | {"name": "copied-0-0-debug"}})

    kubelet.status("copied-0-0-debug", "Failed", {"trainer": exited(1)})
    api.patch(f"{kubelet.jobs}/copied", {"metadata": {"labels": {"look": "again"}}})
    eventually(lambda: kubelet.job("copied")["metadata"]["labels"], "the job has changed")

    kubelet.says("copied", "Running")
    assert not is_deleted(api.get(kubelet.path("copied-0-0")))
    assert [each.get("outcome") for each in kubelet.job("copied")["status"]["attempts"]] == [None]


@pytest.mark.parametrize("label", ["attempt", "replica", "role", "job-name", "job-uid"])
def test_a_replica_whose_label_somebody_changed_is_still_ours(
    api: Client, kubelet: Kubelet, start_operator: StartOperator, label: str
):
    """It is told by its name and owner; its end is the attempt's."""
    name = f"label-{label}"
    start_operator().start()
    kubelet.apply(name)
    kubelet.run(f"{name}-0-0")
    kubelet.says(name, "Running")

    changed = None if label == "job-uid" else "7"
    api.patch(kubelet.path(f"{name}-0-0"), {"metadata": {"labels": {f"finetune.dev/{label}": changed}}})
    kubelet.status(f"{name}-0-0", "Failed", {"trainer": exited(1)})

    assert kubelet.attempt(name, 0)["outcome"] == "TrainerError"
