"""One worker per Pod that the scheduler gives to our Nodes. Runs in the process node, beside registrar and claims."""

import asyncio
import logging
from dataclasses import dataclass, field

from finetune_operator.local.node.addresses import Addresses
from finetune_operator.local.node.containers import Container
from finetune_operator.local.node.kube import RETRY_SECONDS, SYNCED, Kube, Raw
from finetune_operator.local.node.registrar import Registrar
from finetune_operator.local.node.worker import Worker, saved_pods
from finetune_operator.local.state import ClusterState

logger = logging.getLogger("finetune.node")


@dataclass
class Pods:
    """The Pods of this node, by uid."""

    kube: Kube
    state: ClusterState
    registrar: Registrar
    addresses: Addresses
    workers: dict[str, Worker] = field(default_factory=dict)
    _tasks: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)

    async def follow(self) -> None:
        """Follow the Pods for ever; each bound one gets a worker, those of an earlier run their old processes back."""
        try:
            async for event, pod in self.kube.follow("/api/v1/pods"):
                if event == SYNCED:
                    self._forget_strangers()
                elif event == "DELETED":
                    self._forget(pod["metadata"]["uid"])
                elif pod["spec"].get("nodeName") in self.registrar.nodes:
                    self._see(pod)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def container(self, namespace: str, pod: str, name: str) -> Container | None:
        """Find a container by the names that kubectl uses; of two Pods of one name the newer."""
        for worker in reversed(self.workers.values()):
            metadata, spec = worker.pod["metadata"], worker.pod["spec"]
            if (metadata["namespace"], metadata["name"]) == (namespace, pod):
                known = {each["name"] for each in (*spec.get("initContainers", []), *spec["containers"])}
                return worker.container(name) if name in known else None
        return None

    def _see(self, pod: Raw) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self.workers:
            worker = Worker(self.kube, self.state, self.addresses, pod)
            self.workers[uid] = worker
            self._tasks[uid] = asyncio.create_task(self._live(worker))
            return
        self.workers[uid].pod = pod
        self.workers[uid].changed.set()

    async def _live(self, worker: Worker) -> None:
        while True:
            try:
                await worker.live()
            except Exception:
                # one Pod's trouble (a full disk) must not end the others; a worker goes on where the one before stopped
                logger.exception("running Pod %s failed; retrying", worker.path)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    def _forget(self, uid: str) -> None:
        """A Pod is gone, gracefully or by force: so are its processes and its folder."""
        if worker := self.workers.pop(uid, None):
            self._tasks.pop(uid).cancel()
            worker.discard()

    def _forget_strangers(self) -> None:
        """Remove the folders of Pods that were deleted while no node ran."""
        for pod in saved_pods(self.state):
            if pod["metadata"]["uid"] not in self.workers:
                Worker(self.kube, self.state, self.addresses, pod).discard()
