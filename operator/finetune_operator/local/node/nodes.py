"""Which Nodes a cluster shows. Called by registrar; computes, touches nothing."""

from collections.abc import Iterable

from finetune_operator.api.group import GROUP
from finetune_operator.api.pools import GPUPool, NodeShape
from finetune_operator.local.node.kube import Raw
from finetune_operator.local.ports import HOST

MAX_NODES_PER_POOL = 4
"""A laptop plays at most so many Nodes of a pool, whatever its maxNodes says: enough for every kind of gang."""

OURS = f"{GROUP}/process-node"
"""Label of the Nodes that this node runs: others (made by a test, or by kwok) are left alone."""

CPU_NODE = "cpu-0"
CPU_SHAPE = NodeShape(cpus=64, memory_gib=256, ephemeral_gib=1024)
"""What the Node without GPUs offers. Nothing is enforced, so it is large enough for every preflight Pod."""

GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def cpu_node(port: int) -> Raw:
    """Return the Node without GPUs, for preflight Pods."""
    return _node(CPU_NODE, labels={}, taints=[], capacity=_capacity(CPU_SHAPE), port=port)


def pool_nodes(pool: GPUPool, port: int) -> list[Raw]:
    """Return the Nodes of a pool."""
    count = min(pool.spec.max_nodes, MAX_NODES_PER_POOL)
    capacity = _capacity(pool.spec.node) | {pool.spec.resource_name: str(pool.spec.gpus_per_node)}
    return [
        _node(f"{pool.key}-{index}", labels=pool_labels(pool), taints=pool_taints(pool), capacity=capacity, port=port)
        for index in range(count)
    ]


def pool_labels(pool: GPUPool) -> dict[str, str]:
    """Return the labels that GPU feature discovery would set, and those by which the pool finds its Nodes."""
    labels = {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": pool.spec.gpu_type,
        "nvidia.com/gpu.count": str(pool.spec.gpus_per_node),
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/mig.capable": str("/mig-" in pool.spec.resource_name).lower(),
        f"{GROUP}/pool": pool.key,
    }
    if pool.spec.memory_gib is not None:
        labels["nvidia.com/gpu.memory"] = str(round(float(pool.spec.memory_gib) * 1024))
    return labels | {term.key: term.value for term in pool.spec.node_selector}


def pool_taints(pool: GPUPool) -> list[dict[str, str]]:
    """Return the taint of GPU nodes, and one for each that the pool says its Pods tolerate."""
    named = [
        {"key": toleration.key, "value": toleration.value, "effect": toleration.effect or "NoSchedule"}
        for toleration in pool.spec.tolerations
        if toleration.key not in ("", GPU_TAINT["key"])
    ]
    return [GPU_TAINT, *named]


def names(nodes: Iterable[Raw]) -> set[str]:
    """Return the names of Nodes."""
    return {node["metadata"]["name"] for node in nodes}


def _capacity(shape: NodeShape) -> dict[str, str]:
    return {
        "cpu": str(shape.cpus),
        "memory": f"{shape.memory_gib}Gi",
        "ephemeral-storage": f"{shape.ephemeral_gib}Gi",
        "pods": "110",
    }


def _node(
    name: str, *, labels: dict[str, str], taints: list[dict[str, str]], capacity: dict[str, str], port: int
) -> Raw:
    fixed = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", OURS: "true"}
    status = {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": [{"type": "InternalIP", "address": HOST}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": _node_info(),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels | fixed},
        "spec": {"taints": taints},
        "status": status,
    }


def _node_info() -> dict[str, str]:
    """Return what `kubectl get nodes` shows; every field is required."""
    unknown = ("machineID", "systemUUID", "bootID", "kernelVersion", "kubeProxyVersion", "osImage")
    said = {"containerRuntimeVersion": "process://1", "kubeletVersion": "process-node", "operatingSystem": "linux"}
    return dict.fromkeys(unknown, "") | said | {"architecture": "amd64"}
