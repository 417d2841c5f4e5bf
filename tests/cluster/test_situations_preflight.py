"""Preflight in clusters of every kind: other processors, quotas on limits, taints on every node, queues."""

from collections.abc import Iterator

import pytest

from tests.cluster.client import STRATEGIC, Client
from tests.cluster.conftest import StartOperator
from tests.cluster.kubelet import Kubelet, exited
from tests.cluster.standin import StandIn, ready_condition

pytestmark = pytest.mark.cluster


@pytest.fixture
def foreign_nodes(api: Client) -> Iterator[None]:
    """A Windows node and an arm64 node with much room."""
    room = {"cpu": "9000000", "memory": "9000Ti", "ephemeral-storage": "9000Ti", "pods": "90000"}
    labels = {"win-1": ("windows", "amd64"), "arm-1": ("linux", "arm64")}
    for name, (system, processor) in labels.items():
        meta = {"name": name, "labels": {"kubernetes.io/os": system, "kubernetes.io/arch": processor}}
        status = {"capacity": room, "allocatable": room, "conditions": [ready_condition()]}
        api.ensure("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": status})
        api.patch(f"/api/v1/nodes/{name}/status", {"status": status}, STRATEGIC)
    yield
    for name in labels:
        api.delete(f"/api/v1/nodes/{name}")


def test_preflight_keeps_off_nodes_that_cannot_run_its_image(
    foreign_nodes: None, kubelet: Kubelet, start_operator: StartOperator
):
    """The emptiest nodes of the cluster are Windows and arm64."""
    start_operator().start()
    kubelet.apply("mixed", planOnly=True)

    node = kubelet.bound("mixed-preflight-1")["spec"]["nodeName"]

    assert node not in ("win-1", "arm-1")


def test_a_quota_on_every_limit_admits_preflight(api: Client, kubelet: Kubelet, start_operator: StartOperator):
    """limits.cpu, limits.memory and limits.ephemeral-storage must be named."""
    hard = {"limits.cpu": "8", "limits.memory": "16Gi", "limits.ephemeral-storage": "40Gi", "requests.cpu": "8"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}}
    api.create(f"/api/v1/namespaces/{kubelet.namespace}/resourcequotas", quota)
    start_operator().start()
    kubelet.apply("quota", planOnly=True)

    kubelet.bound("quota-preflight-1")


def test_the_installation_decides_what_pods_look_like(
    standin: StandIn, kubelet: Kubelet, start_operator: StartOperator
):
    """A queue's label, a mesh's annotation; preflight on the tainted nodes, with resources that a LimitRange takes."""
    settings = (
        '{"labels": {"kueue.x-k8s.io/queue-name": "team"}, "annotations": {"sidecar.istio.io/inject": "false"}, "preflight": '
        '{"resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "4Gi"}}, "nodeSelector": '
        '{"manual.test/node": "yes"}, "tolerations": [{"key": "manual.test/node", "operator": "Exists"}]}}'
    )
    start_operator(f"--pod-settings={settings}").start()
    kubelet.apply("shaped", planOnly=True)

    pod = kubelet.bound("shaped-preflight-1")

    assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "4Gi"}
    assert pod["spec"]["nodeName"].startswith("manual-")


def test_a_pod_that_a_finalizer_keeps_is_told(
    api: Client, standin: StandIn, kubelet: Kubelet, start_operator: StartOperator
):
    """The next preflight needs its name: until the owner of the finalizer is done, the job says whom it waits for, and rests."""
    pod = "kept-preflight-1"
    standin.held.add(pod)
    operator = start_operator("--log-level=DEBUG")
    operator.start()
    kubelet.apply("kept", planOnly=True)
    kubelet.bound(pod)
    api.patch(kubelet.path(pod), {"metadata": {"finalizers": ["audit.example.com/keep"]}})
    kubelet.status(pod, "Failed", {"preflight": exited(1, "boom")})

    kubelet.says("kept", f"waiting for Pod {pod} to be removed; finalizers that hold it: audit.example.com/keep")
    passes = operator.text.count(" pass job=")
    standin.held.remove(pod)
    api.patch(kubelet.path(pod), {"metadata": {"finalizers": None}})

    kubelet.says("kept", "PlanOnly")
    assert passes < 30
