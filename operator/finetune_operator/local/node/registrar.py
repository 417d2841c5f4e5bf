"""Keep the cluster's Nodes as the pools say, and Ready. Runs beside the Pods in the process node."""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import ValidationError

from finetune_operator.api.group import API_VERSION, POOL_PLURAL
from finetune_operator.api.pools import GPUPool
from finetune_operator.local.node.kube import STRATEGIC, SYNCED, Kube, Raw
from finetune_operator.local.node.nodes import OURS, cpu_node, names, pool_nodes
from finetune_operator.local.state import ClusterState, read_json

LEASE_SECONDS = 40
HEARTBEAT_SECONDS = 10
"""As a kubelet does. The node lifecycle controller calls a Node lost 50 s after its last renewal."""

BEGIN_SECONDS = 0.1
"""Between looks for the API server while the cluster starts."""

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
NODES = "/api/v1/nodes"
POOLS = f"/apis/{API_VERSION}/{POOL_PLURAL}"

logger = logging.getLogger("finetune.node")


@dataclass
class Registrar:
    """Turns GPUPools into Nodes: those of the state folder, and GPUPool objects, which win over them by name."""

    kube: Kube
    state: ClusterState
    port: int
    """Where this node answers for logs."""
    nodes: set[str] = field(default_factory=set)
    """Names of the Nodes whose Pods we run."""
    _pools: dict[str, GPUPool] = field(default_factory=dict)
    _change: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def begin(self) -> None:
        """Take over the Nodes of an earlier run and register those of the pools; Pods may be looked at afterwards.

        The pools are read first: a Node whose pool is not known yet would be removed as one whose pool is gone.
        """
        while True:
            listing, pools = await self._ours(), await self.kube.get(POOLS)
            if listing is not None and pools.status in (200, 404):
                break
            await asyncio.sleep(BEGIN_SECONDS)
        self.nodes |= names(listing["items"])
        for item in pools.body.get("items", []):
            self._take(item)
        await self.sync()

    async def follow_pools(self) -> None:
        """Follow the GPUPool objects for ever, as soon as their CRD is there."""
        async for event, item in self.kube.follow(POOLS):
            if event == "DELETED":
                self._pools.pop(item["metadata"]["name"], None)
            elif event != SYNCED:
                self._take(item)
            await self.sync()

    def _take(self, item: Raw) -> None:
        """Remember a GPUPool object."""
        name = item["metadata"]["name"]
        try:
            self._pools[name] = GPUPool.model_validate(item)
        except ValidationError as error:
            logger.warning("GPUPool %s is ignored: %s", name, error)

    async def beat(self) -> None:
        """Renew the Leases for ever, bring back Nodes that were taken for lost, remove those of deleted pools."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await self.sync()

    async def sync(self) -> None:
        """Make the Nodes what they should be."""
        async with self._change:
            listing = await self._ours()
            if listing is None:
                return
            present = {node["metadata"]["name"]: node for node in listing["items"]}
            wanted = self._wanted()
            self.nodes |= names(wanted)
            await asyncio.gather(*(self._register(node, present.get(node["metadata"]["name"])) for node in wanted))
            await asyncio.gather(*(self._retire(name) for name in present.keys() - names(wanted)))

    def _wanted(self) -> list[Raw]:
        pools = {pool.key: pool for pool in file_pools(self.state)} | self._pools
        return [cpu_node(self.port), *(node for pool in pools.values() for node in pool_nodes(pool, self.port))]

    async def _ours(self) -> Raw | None:
        answer = await self.kube.get(NODES, {"labelSelector": f"{OURS}=true"})
        return answer.body if answer.ok else None

    async def _register(self, node: Raw, present: Raw | None) -> None:
        """Create a Node or correct it, then renew its Lease."""
        name = node["metadata"]["name"]
        if present is None:
            answer = await self.kube.create(NODES, node | {"status": node["status"] | ready()})
            logger.info("Node %s: %s", name, answer.status)
            present = answer.body
        elif differs(node, present):
            await self.kube.patch(f"{NODES}/{name}", {"metadata": {"labels": node["metadata"]["labels"]}})
            # conditions merge by type; a Node that was called lost does not come back by its Lease alone
            status = node["status"] | ({} if is_ready(present) else ready())
            await self.kube.patch(f"{NODES}/{name}/status", {"status": status}, STRATEGIC)
        if uid := present.get("metadata", {}).get("uid"):
            await self._renew(name, uid)

    async def _renew(self, name: str, uid: str) -> None:
        spec = {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": _now()}
        answer = await self.kube.patch(f"{LEASES}/{name}", {"spec": spec})
        if answer.status == 404:
            owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
            metadata = {"name": name, "namespace": "kube-node-lease", "ownerReferences": [owner]}
            await self.kube.create(
                LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            )

    async def _retire(self, name: str) -> None:
        """Delete a Node that no pool wants any more, once its Pods are gone."""
        pods = await self.kube.get("/api/v1/pods", {"fieldSelector": f"spec.nodeName={name}", "limit": "1"})
        if pods.ok and not pods.body["items"]:
            await self.kube.delete(f"{NODES}/{name}")
            self.nodes.discard(name)


def file_pools(state: ClusterState) -> list[GPUPool]:
    """Return the pools given on the command line (`finetune local up --pools FILE`)."""
    return [GPUPool.model_validate(item) for item in read_json(state.pools) or []]


def differs(node: Raw, present: Raw) -> bool:
    """Whether a Node should be written: something of ours changed, or it is not Ready."""
    fields = ("capacity", "allocatable", "daemonEndpoints")
    status = {name: present["status"].get(name) for name in fields}
    labels = present["metadata"].get("labels", {})
    same = (
        status == {name: node["status"][name] for name in fields}
        and node["metadata"]["labels"].items() <= labels.items()
    )
    return not same or not is_ready(present)


def is_ready(node: Raw) -> bool:
    """Whether the API server holds a Node for Ready."""
    return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"].get("conditions", []))


def ready() -> Raw:
    """Return the conditions of a healthy Node."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"status": "True", "reason": "KubeletReady", "message": "the process node is ready", "type": "Ready"}
    return {"conditions": [condition | {"lastHeartbeatTime": stamp, "lastTransitionTime": stamp}]}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
