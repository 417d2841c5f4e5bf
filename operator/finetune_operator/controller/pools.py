"""GPUPool.status: what exists and how much of it our jobs hold. Called by process; writes only what changed.

Only an operator that serves all namespaces keeps it: several that each see a part would overwrite each other for ever.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from finetune_operator.api.group import POOL_KIND
from finetune_operator.api.meta import Condition
from finetune_operator.api.pools import GPUPool, GPUPoolSpec, GPUPoolStatus
from finetune_operator.controller.api import Api
from finetune_operator.controller.store import Store
from finetune_operator.controller.stored import Stored, collection
from finetune_operator.controller.upkeep import keep_up
from finetune_operator.errors import Conflict, Forbidden
from finetune_operator.manifests.names import ROLE_LABEL
from finetune_operator.planning.pool_gpu import refused
from finetune_operator.planning.pools.gpus import gpu

log = logging.getLogger(__name__)

NODES_SECONDS = 60.0
"""Nodes come and go in minutes; reading them all is the operator's largest request."""

USAGE_SECONDS = 5.0
"""Shortest time between two writes because of Pods: a burst of jobs is one change of a pool."""

ENDED = ("Succeeded", "Failed")
Raw = dict[str, Any]


def matching(spec: GPUPoolSpec, nodes: Iterable[Raw]) -> tuple[Raw, ...]:
    """Return the nodes with all labels of the pool. A pool without a selector has no nodes that could be told apart."""
    wanted = {term.key: term.value for term in spec.node_selector}
    return tuple(node for node in nodes if wanted and wanted.items() <= node["metadata"].get("labels", {}).items())


def gpus_of(nodes: Iterable[Raw], resource_name: str) -> int:
    """Return the GPUs that the nodes can give out."""
    offers = (node.get("status", {}).get("allocatable", {}).get(resource_name, 0) for node in nodes)
    return sum(int(parse_quantity(offer)) for offer in offers)


def gpus_held(pod: Raw, resource_name: str) -> int:
    """Return the GPUs that a Pod holds: from being scheduled until all its containers have ended."""
    scheduled = bool(pod["spec"].get("nodeName"))
    if not scheduled or pod.get("status", {}).get("phase") in ENDED:
        return 0
    limits = (each.get("resources", {}).get("limits", {}) for each in pod["spec"]["containers"])
    return sum(int(parse_quantity(limit.get(resource_name, 0))) for limit in limits)


def accepted(pool: GPUPool, now: datetime) -> Condition:
    """Tell whether jobs can be planned on a pool's GPUs."""
    message = refused(pool.spec)
    status = "False" if message else "True"
    old = next((each for each in pool.status.conditions if each.type == "Accepted"), None)
    since = old.last_transition_time if old is not None and old.status == status else now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Condition(
        type="Accepted",
        status=status,
        observed_generation=pool.metadata.generation,
        last_transition_time=since,
        reason=reason_of(pool.spec, message),
        message=message,
    )


def reason_of(spec: GPUPoolSpec, message: str) -> str:
    """Return the reason of condition Accepted."""
    if not message:
        return "Known"
    known = gpu(spec.gpu_type) is not None or spec.memory_gib is not None
    return "UnsupportedGPU" if known else "UnknownGPU"


def pool_status(pool: GPUPool, nodes: tuple[Raw, ...] | None, in_use: int, now: datetime) -> GPUPoolStatus:
    """Return the status of a pool; without access to nodes their counts stay as they are."""
    mine = None if nodes is None else matching(pool.spec, nodes)
    return GPUPoolStatus(
        observed_generation=pool.metadata.generation,
        nodes=pool.status.nodes if mine is None else len(mine),
        gpus=pool.status.gpus if mine is None else gpus_of(mine, pool.spec.resource_name),
        gpus_in_use_by_jobs=in_use,
        conditions=[accepted(pool, now)],
    )


@dataclass(slots=True)
class Pools:
    """Keeps the status of all pools."""

    api: Api
    store: Store
    list_pools: Callable[[], tuple[GPUPool, ...]]
    _dirty: asyncio.Event = field(default_factory=asyncio.Event)
    _nodes: tuple[Raw, ...] | None = None
    _nodes_read: float | None = None

    def changed(self) -> None:
        """Note that a pool or the Pods on it changed."""
        self._dirty.set()

    async def run(self) -> None:
        """Keep the status for ever."""
        await keep_up("GPUPool", self.once, self._dirty, pause=USAGE_SECONDS, longest=NODES_SECONDS)

    async def once(self) -> None:
        """Write the status of every pool where it differs."""
        self._dirty.clear()
        pools = self.list_pools()
        if not pools:
            return
        await self._read_nodes()
        now = self.api.clock.now()
        for pool in pools:
            status = pool_status(pool, self._nodes, self._in_use(pool), now)
            if status != pool.status:
                await self._write(pool, status)

    async def _read_nodes(self) -> None:
        """Read the nodes, at most once a minute. Without the right to (an operator of one namespace) counts stay 0."""
        now = asyncio.get_running_loop().time()
        if self._nodes_read is not None and now - self._nodes_read < NODES_SECONDS:
            return
        self._nodes_read = now
        try:
            found, _ = await self.api.list("/api/v1/nodes")
            self._nodes = tuple(found)
        except Forbidden as error:
            log.debug("Nodes could not be read", extra={"error": str(error)})

    def _in_use(self, pool: GPUPool) -> int:
        """Return the GPUs that the trainer Pods of the pool's jobs hold."""
        live = (pod for pod in self.store.of_kind("Pod") if pod.phase not in ENDED)
        mine = (pod.raw for pod in live if self._pool_of(pod) == pool.metadata.name)
        trainers = (raw for raw in mine if raw["metadata"]["labels"].get(ROLE_LABEL) == "trainer")
        return sum(gpus_held(raw, pool.spec.resource_name) for raw in trainers)

    def _pool_of(self, pod: Stored) -> str:
        job = self.store.get(pod.owner_uid)
        return job.pool if job is not None else ""

    async def _write(self, pool: GPUPool, status: GPUPoolStatus) -> None:
        stored = self.store.get(pool.metadata.uid)
        if stored is None:
            return
        body = stored.raw | {"status": status.model_dump(mode="json", by_alias=True, exclude_none=True)}
        path = f"{collection(POOL_KIND)}/{pool.metadata.name}/status"
        answer = await self.api.write("PUT", path, body)
        try:
            self.store.put("GPUPool", answer.expect(200))
        except Conflict:
            self._dirty.set()
