"""Whose Pods and Services are the job's, and who takes care of them: finalizers of others, copies, changed labels."""

import contextlib
import json

import pytest

from tests.cluster.client import ApiError, Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.faults import FaultProxy
from tests.cluster.kubelet import NODES, POOL, Kubelet, exited, is_deleted
from tests.cluster.standin import StandIn

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


def test_a_refused_preflight_pod_that_a_finalizer_keeps_is_told(
    api: Client, standin: StandIn, kubelet: Kubelet, start_operator: StartOperator
):
    """Its name is not free for the next try: whose word is missing is said, and the job goes on when it is given."""
    name = "kept-preflight-1"
    standin.held.add(name)
    start_operator().start()
    kubelet.apply("kept", planOnly=True)
    kubelet.bound(name)
    api.patch(kubelet.path(name), {"metadata": {"finalizers": ["kueue.x-k8s.io/managed"]}})

    kubelet.status(name, "Failed", reason="OutOfpods", message="too many")

    kubelet.says("kept", f"waiting for Pod {name} to be removed; finalizers that hold it: kueue.x-k8s.io/managed")
    standin.held.remove(name)
    api.patch(kubelet.path(name), {"metadata": {"finalizers": None}})
    kubelet.says("kept", "PlanOnly")


def test_a_pod_without_a_node_that_a_finalizer_keeps_holds_nothing(
    api: Client, kubelet: Kubelet, start_operator: StartOperator
):
    """No node is blamed, nothing is billed, and the suspended job can be resumed while the Pod stays."""
    start_operator().start()
    for node in NODES:
        api.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}})
    try:
        kubelet.apply("nowhere")
        kubelet.says("nowhere", "Unschedulable")
        api.patch(kubelet.path("nowhere-0-0"), {"metadata": {"finalizers": ["kueue.x-k8s.io/managed"]}})

        api.patch(f"{kubelet.jobs}/nowhere", {"spec": {"suspend": True}})

        kubelet.says("nowhere", "Suspended: spec.suspend is true", seconds=15)
        first = kubelet.attempt("nowhere", 0)
        assert (first["outcome"], first.get("gpuSeconds", 0), first.get("failedNode", "")) == ("Suspended", 0, "")
        assert "is not responding" not in first["message"]
    finally:
        for node in NODES:
            api.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": None}})

    api.patch(f"{kubelet.jobs}/nowhere", {"spec": {"suspend": False}})
    kubelet.bound("nowhere-1-0")
    api.patch(kubelet.path("nowhere-0-0"), {"metadata": {"finalizers": None}})


def test_a_preflight_pod_that_something_deletes_is_not_created_at_once_each_time(
    standin: StandIn, kubelet: Kubelet, start_operator: StartOperator
):
    """The two would go on as fast as the API server can: the pause doubles, and the user is told to look for the other one."""
    name = "weeded-preflight-1"
    standin.held.add(name)
    start_operator("--retry-back-off-seconds=600").start()
    kubelet.apply("weeded", planOnly=True)
    kubelet.run(name)

    kubelet.remove(name)

    found = kubelet.says(
        "weeded", f"BackOff: preflight: Pod {name} was deleted once before it finished: find out what deletes"
    )
    assert "in this namespace; it is created again at 20" in found["message"]
    assert kubelet.client.find(kubelet.path(name)) is None


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


def test_the_service_of_a_deleted_gang_is_not(
    api: Client, kubelet: Kubelet, proxy: FaultProxy, start_operator: StartOperator
):
    """It goes with the job, whose watch is late: the job is looked for before anything is created for it again."""
    start_operator("--resync-seconds=3600", kubeconfig=proxy.operator_kubeconfig).start()
    kubelet.apply("gang", resources={"pools": [POOL], "gpus": 16}, training={"globalBatchSize": 16})
    for replica in range(2):
        kubelet.run(f"gang-0-{replica}")
    kubelet.says("gang", "Running")
    services, known = f"/api/v1/namespaces/{kubelet.namespace}/services", json.dumps(api.get(kubelet.jobs)).encode()
    looked: list[str] = []

    def late(path: str, content: bytes) -> bytes:
        if "fieldSelector" in path:
            looked.append(path)
            return content
        return known if path.startswith(kubelet.jobs) else content

    proxy.drop_event, proxy.listed = lambda event: event["object"]["kind"] == "FineTuneJob", late
    since = len(proxy.calls)

    api.delete(f"{kubelet.jobs}/gang")
    with contextlib.suppress(ApiError):  # the garbage collector was faster
        api.delete(f"{services}/gang-0")

    create = ("POST", services)
    eventually(lambda: looked or create in proxy.calls[since:], "the operator misses the Service")
    assert create not in proxy.calls[since:]


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
