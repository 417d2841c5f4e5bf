"""Which jobs need a pass because something beside them changed: their children, pools, quotas. Called by process."""

import json
from dataclasses import dataclass, field

from finetune_operator.controller.cluster import Cluster
from finetune_operator.controller.queue import WorkQueue
from finetune_operator.controller.store import Store
from finetune_operator.controller.stored import Stored


@dataclass(slots=True)
class Asking:
    """Puts jobs into the queue."""

    store: Store
    queue: WorkQueue
    cluster: Cluster
    _specs: dict[str, str] = field(default_factory=dict)
    """uid of a GPUPool or a quota -> the spec that jobs were planned with."""

    def forget(self, uid: str) -> None:
        """Drop what was remembered about a deleted object."""
        self._specs.pop(uid, None)

    def family(self, child: Stored, *, gone: bool = False) -> None:
        """Ask for the job of a child that has changed, or is gone."""
        ended = child.kind == "Pod" and child.phase in ("Succeeded", "Failed")
        for job in self.store.members(child.family, "FineTuneJob"):
            # most often more comes a moment later, and one pass sees both; the status would be held back for as long anyway
            delay = self.cluster.patience.hold_seconds() if is_on_its_way(child, job) and not gone else 0
            # an end frees GPUs and tells a person; before the first attempt it asks for a plan, which can wait
            self.queue.put(job.uid, delay, urgent=ended and job.begun)

    def unplanned(self, limit: Stored) -> None:
        """A pool or a quota is new or has a new spec: jobs without a plan may fit now. Its status says nothing to them."""
        spec = json.dumps(limit.raw.get("spec"), sort_keys=True)
        if self._specs.get(limit.uid) == spec:
            return
        self._specs[limit.uid] = spec
        self.waiting(limit.namespace)

    def waiting(self, namespace: str) -> None:
        """Ask for the jobs of a namespace, or of all, that have no attempt, or one whose Pods a quota refused."""
        for job in self.store.of_kind("FineTuneJob"):
            if namespace not in ("", job.namespace):
                continue
            refused = bool(namespace) and self.cluster.refusals.forgive(job.uid)
            if not job.begun or refused:
                self.queue.put(job.uid)


def is_on_its_way(child: Stored, job: Stored) -> bool:
    """Tell whether nothing is decided by how far a Pod is: before it runs, and with preflight before it ends."""
    return child.kind == "Pod" and (child.phase == "Pending" or (child.phase == "Running" and not job.begun))
