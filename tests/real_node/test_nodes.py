"""The ground under the other tests: real kubelets run real containers."""

import pytest

from tests.real_node.cluster import RealCluster

pytestmark = pytest.mark.real_node


def test_two_nodes_are_ready_and_offer_a_gpu_each(cluster: RealCluster):
    """Their kubelets say so, not a test that patches the status."""
    found = {
        node["metadata"]["name"]: (
            node["status"]["nodeInfo"]["kubeletVersion"].split("-")[0],
            node["status"]["nodeInfo"]["containerRuntimeVersion"].split("://")[0],
            node["status"]["allocatable"]["nvidia.com/gpu"],
        )
        for node in cluster.plane.get("nodes")["items"]
    }
    assert {name: parts[1:] for name, parts in found.items()} == {
        "real-0": ("containerd", "1"),
        "real-1": ("containerd", "1"),
    }


def test_a_gpu_that_turns_unhealthy_is_not_given_out(cluster: RealCluster):
    """The kubelet takes it off the node's allocatable GPUs, and puts it back once it is well."""
    node = cluster.nodes[1]
    node.fail_gpu(0)
    try:
        cluster.await_gpus(node.name, 0)
    finally:
        node.heal_gpus()
    cluster.await_gpus(node.name, 1)


def test_a_node_that_dies_is_noticed_and_comes_back(cluster: RealCluster):
    """SIGKILL of everything on it; the controller manager sees the lease expire."""
    node = cluster.nodes[1]
    node.kill()
    cluster.plane.kubectl("wait", "--for=condition=Ready=Unknown", f"node/{node.name}", "--timeout=50s")
    cluster.bring_up(node)

    assert cluster.gpus(node.name) == 1
