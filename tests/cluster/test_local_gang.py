"""Pods that work together find each other, and the real scheduler decides where they run."""

from typing import Any

import pytest
from finetune_operator.api.crd import crds

from tests.cluster.client import eventually
from tests.cluster.pod_manifests import a_pod
from tests.servers.control_plane import ProcessNode

pytestmark = pytest.mark.cluster

POOL = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "GPUPool",
    "metadata": {"name": "gang"},
    "spec": {
        "gpuType": "NVIDIA-H100-80GB-HBM3",
        "memoryGiB": "79.10",
        "gpusPerNode": 2,
        "maxNodes": 2,
        "node": {"cpus": 16, "memoryGiB": 128, "ephemeralGiB": 512},
        "nodeSelector": [{"key": "example.com/zone", "value": "a"}],
        "tolerations": [{"key": "example.com/spot", "operator": "Exists", "effect": "NoSchedule"}],
        "pricePerGPUHourUSD": "2.50",
    },
}


@pytest.fixture(scope="module")
def pool(process_node: ProcessNode) -> ProcessNode:
    """The process node with a pool of two Nodes with two GPUs each, made while the node runs."""
    process_node.cluster.apply(*crds())
    process_node.cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    process_node.cluster.apply(POOL)
    process_node.cluster.wait_for_nodes("gang-0", "gang-1")
    return process_node


def a_replica(namespace: str, replica: int, *, gpus: int, script: str, gated: bool = False) -> dict[str, Any]:
    """Return one Pod of a gang, as the operator makes it."""
    limits = {"nvidia.com/gpu": str(gpus)}
    spec: dict[str, Any] = {
        "hostname": f"job-0-{replica}",
        "subdomain": "job-0",
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{"operator": "Exists"}],
        "nodeSelector": {"example.com/zone": "a"},
    }
    if gated:
        spec["schedulingGates"] = [{"name": "finetune.dev/gang"}]
    return a_pod(
        namespace,
        f"job-0-{replica}",
        ["python", "-c", script],
        resources={"limits": limits},
        env=[
            {"name": "PET_NODE_RANK", "value": str(replica)},
            {"name": "MASTER_ADDR", "value": f"job-0-0.job-0.{namespace}.svc.cluster.local"},
            {"name": "SHORT", "value": "tcp://job-0-0.job-0:29500"},
            {"name": "OTHER", "value": f"job-0-0.job-00 job-0-0.job-0.other job-0-1.job-0.{namespace}.svc,x"},
            {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        metadata={"name": f"job-0-{replica}", "namespace": namespace, "labels": {"gang": "job"}},
        pod=spec,
    )


def test_a_pool_has_nodes_as_the_gpu_operator_makes_them(pool: ProcessNode):
    """GPUs, labels and taints of a Node are those of its pool."""
    node = pool.cluster.get("node", "gang-0")
    labels = {name: value for name, value in node["metadata"]["labels"].items() if "kubernetes.io" not in name}

    assert labels == {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.count": "2",
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.memory": "80998",
        "nvidia.com/mig.capable": "false",
        "finetune.dev/pool": "gang",
        "finetune.dev/process-node": "true",
        "example.com/zone": "a",
    }
    assert node["spec"]["taints"] == [
        {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
        {"key": "example.com/spot", "effect": "NoSchedule"},
    ]
    assert node["status"]["allocatable"] == {
        "cpu": "16",
        "memory": "128Gi",
        "ephemeral-storage": "512Gi",
        "pods": "110",
        "nvidia.com/gpu": "2",
    }


def test_two_replicas_meet_at_the_address_of_the_first(pool: ProcessNode, node_namespace: str):
    """Names of the headless Service in env values become loopback addresses on which the Pods reach each other."""
    server = (
        "import os, socket\n"
        "listener = socket.create_server((os.environ['MASTER_ADDR'], 29500))\n"
        "peer, _ = listener.accept(); print(peer.recv(100).decode())"
    )
    client = (
        "import os, socket, time\n"
        "deadline = time.monotonic() + 20\n"
        "while True:\n"
        "    try: peer = socket.create_connection((os.environ['MASTER_ADDR'], 29500)); break\n"
        "    except ConnectionRefusedError: assert time.monotonic() < deadline; time.sleep(0.05)\n"
        "peer.sendall(f\"{os.environ['SHORT']} {os.environ['OTHER']}\".encode())"
    )
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "job-0", "namespace": node_namespace},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"gang": "job"}},
    }
    # the second first: it names a Pod that does not exist yet
    pool.cluster.apply(service, a_replica(node_namespace, 1, gpus=2, script=client))
    pool.cluster.apply(a_replica(node_namespace, 0, gpus=2, script=server))
    first, second = (pool.cluster.phase(f"job-0-{i}", node_namespace, "Succeeded") for i in (0, 1))

    assert {first["spec"]["nodeName"], second["spec"]["nodeName"]} == {"gang-0", "gang-1"}
    words = pool.cluster.kubectl("logs", "job-0-0", "-n", node_namespace).stdout.split()
    network = words[0].removeprefix("tcp://").removesuffix(":29500").rsplit(".", 2)[0]
    host, other = (pod["status"]["podIP"].removeprefix("10.244.") for pod in (first, second))
    assert network.startswith("127.")
    assert words == [f"tcp://{network}.{host}:29500", "job-0-0.job-00", "job-0-0.job-0.other", f"{network}.{other},x"]


def test_the_service_lists_the_pods(pool: ProcessNode, node_namespace: str):
    """The address in Pod status is one that EndpointSlices take."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "job-0", "namespace": node_namespace},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"gang": "job"}},
    }
    script = "import time; time.sleep(1000)"
    pool.cluster.apply(service, *(a_replica(node_namespace, i, gpus=1, script=script) for i in (0, 1)))
    pods = [pool.cluster.phase(f"job-0-{i}", node_namespace, "Running") for i in (0, 1)]

    def endpoints() -> set[str]:
        slices = pool.cluster.get("endpointslices", "-n", node_namespace)["items"]
        return {address for each in slices for point in each["endpoints"] or [] for address in point["addresses"]}

    eventually(
        lambda: endpoints() == {pod["status"]["podIP"] for pod in pods}, "the address of each Pod in the Service"
    )
    pool.cluster.kubectl("delete", "pod", "--all", "-n", node_namespace)


def test_a_gated_pod_is_not_started(pool: ProcessNode, node_namespace: str):
    """A scheduling gate keeps a Pod from any Node until it is lifted."""
    pool.cluster.apply(a_replica(node_namespace, 0, gpus=2, script="print('ran')", gated=True))
    pool.cluster.kubectl("wait", "pod/job-0-0", "-n", node_namespace, "--for=condition=PodScheduled=False")
    gated = pool.cluster.get("pod", "job-0-0", "-n", node_namespace)
    lift = '[{"op": "remove", "path": "/spec/schedulingGates"}]'
    pool.cluster.kubectl("patch", "pod", "job-0-0", "-n", node_namespace, "--type=json", "-p", lift)
    done = pool.cluster.phase("job-0-0", node_namespace, "Succeeded")

    assert gated["status"]["conditions"][0]["reason"] == "SchedulingGated"
    assert "nodeName" not in gated["spec"]
    assert done["spec"]["nodeName"] in {"gang-0", "gang-1"}


def test_a_pod_that_asks_for_too_much_waits(pool: ProcessNode, node_namespace: str):
    """The real scheduler says what is missing."""
    pool.cluster.apply(a_replica(node_namespace, 0, gpus=3, script="print()"))
    pool.cluster.kubectl("wait", "pod/job-0-0", "-n", node_namespace, "--for=condition=PodScheduled=False")
    (condition,) = pool.cluster.get("pod", "job-0-0", "-n", node_namespace)["status"]["conditions"]

    assert condition["reason"] == "Unschedulable"
    assert "2 Insufficient nvidia.com/gpu" in condition["message"]


def test_a_deleted_pool_takes_its_nodes_along(pool: ProcessNode):
    """Nodes of a pool go when it goes, once no Pod is on them."""
    small = POOL | {"metadata": {"name": "short-lived"}}
    pool.cluster.apply(small)
    pool.cluster.wait_for_nodes("short-lived-0", "short-lived-1")
    pool.cluster.kubectl("delete", "gpupool", "short-lived")
    pool.cluster.kubectl("wait", "--for=delete", "node/short-lived-0", "node/short-lived-1", "--timeout=30s")

    names = {node["metadata"]["name"] for node in pool.cluster.get("nodes")["items"]}
    assert not {name for name in names if name.startswith("short-lived")}
