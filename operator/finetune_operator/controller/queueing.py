"""Kueue's Workloads of a job: read in each pass of a job with a queue, created, deleted and finished. Called by cluster.

They are read, not watched: Kueue may be installed later or be removed, and only jobs with a queue need them.
"""

import time
from dataclasses import dataclass, field, replace
from typing import Any, Final

from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.controller.api import Api
from finetune_operator.controller.bodies import delete_options
from finetune_operator.controller.positions import Positions
from finetune_operator.controller.stored import controller_uid
from finetune_operator.errors import Conflict, Forbidden, NameConflict
from finetune_operator.lifecycle.conditions import has_ended
from finetune_operator.lifecycle.observation import Child, Finish, Queue, SeenWorkload
from finetune_operator.lifecycle.times import timestamp
from finetune_operator.manifests.names import ATTEMPT_LABEL, JOB_UID_LABEL
from finetune_operator.manifests.workload import KUEUE_VERSION

APPLY_PATCH: Final = "application/apply-patch+yaml"
ROOT = f"/apis/{KUEUE_VERSION}"
CLASSES = {
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "WorkloadPriorityClass": f"{ROOT}/workloadpriorityclasses",
}
MISSING = "Kueue is not installed in this cluster: install it, or delete the job and apply it without queueName"
NO_RIGHTS = "the operator is not allowed to use Kueue: set rbac.kueue to true in the chart"

LOST_SECONDS = 20.0
"""How long a Workload must be missing before somebody has deleted it."""

Raw = dict[str, Any]


def workloads(namespace: str, name: str = "") -> str:
    """Return the path of the Workloads of a namespace, or of one."""
    return f"{ROOT}/namespaces/{namespace}/workloads" + (f"/{name}" if name else "")


def queue_of(status: FineTuneJobStatus) -> str:
    """Return the LocalQueue of a planned job; empty without one."""
    return (status.resolved.queue_name if status.resolved is not None else status.queue_name) or ""


def condition(raw: Raw, kind: str) -> Raw:
    """Return a condition of a Workload, empty without one."""
    found = (raw.get("status") or {}).get("conditions") or ()
    return next((each for each in found if each["type"] == kind), {})


def is_true(raw: Raw, kind: str) -> bool:
    """Tell whether a condition is True."""
    return bool(condition(raw, kind).get("status") == "True")


def seen_workload(raw: Raw) -> SeenWorkload:
    """Return what a decision needs to know. An evicted Workload keeps its admission: Evicted is looked at first."""
    evicted = condition(raw, "Evicted").get("message", "evicted") if is_true(raw, "Evicted") else ""
    active = raw["spec"].get("active", True) is not False
    return SeenWorkload(
        name=raw["metadata"]["name"],
        uid=raw["metadata"]["uid"],
        attempt=int(raw["metadata"]["labels"].get(ATTEMPT_LABEL, -1)),
        admitted=is_true(raw, "Admitted") and not evicted and active,
        active=active,
        priority_class=(raw["spec"].get("priorityClassRef") or {}).get("name", ""),
        evicted=evicted,
        finished=is_true(raw, "Finished"),
        pending=str(condition(raw, "QuotaReserved").get("message", "")),
    )


@dataclass(slots=True)
class Queueing:
    """Speaks to the API server about Workloads."""

    api: Api
    positions: Positions = field(init=False)
    _done: set[str] = field(default_factory=set)
    """uids of ended jobs whose Workload is finished."""
    _missing: dict[str, float] = field(default_factory=dict)
    """Job uid -> since when it has no Workload."""

    def __post_init__(self) -> None:
        self.positions = Positions(self.api)

    def forget(self, uid: str) -> None:
        """Drop what was remembered about a deleted job."""
        self._done.discard(uid)
        self._missing.pop(uid, None)

    async def read(self, job: FineTuneJob) -> Queue:
        """Return the job's Workloads, or why there are none to be had; nothing for a job without a queue."""
        uid = job.metadata.uid
        if not queue_of(job.status) or uid in self._done:
            return Queue()
        answer = await self.api.get(workloads(job.metadata.namespace), {"labelSelector": f"{JOB_UID_LABEL}={uid}"})
        if answer.status in (403, 404):
            self._missing.pop(uid, None)
            return Queue(unavailable=NO_RIGHTS if answer.status == 403 else MISSING)
        found = [raw for raw in answer.expect(200)["items"] if controller_uid(raw) == uid]
        seen = tuple([await self._with_position(job, await self._with_nodes(raw)) for raw in found])
        if has_ended(job.status) and all(each.finished for each in seen):
            self._done.add(uid)
        return Queue(read=True, workloads=seen, lost=self._is_lost(uid, there=bool(seen)))

    def _is_lost(self, uid: str, *, there: bool) -> bool:
        """Tell whether a job has had no Workload for a while. When Kueue is removed, its objects go shortly before their kind."""
        if there:
            self._missing.pop(uid, None)
            return False
        return time.monotonic() - self._missing.setdefault(uid, time.monotonic()) > LOST_SECONDS

    async def _with_nodes(self, raw: Raw) -> SeenWorkload:
        """Return a Workload with the node labels and tolerations of its flavors."""
        seen = seen_workload(raw)
        labels: dict[str, str] = {}
        tolerations: list[Raw] = []
        assigned = ((raw.get("status") or {}).get("admission") or {}).get("podSetAssignments") or ()
        flavors = (
            {name for each in assigned for name in (each.get("flavors") or {}).values()} if seen.admitted else set()
        )
        for flavor in sorted(flavors):
            answer = await self.api.get(f"{ROOT}/resourceflavors/{flavor}")
            spec = answer.expect(200).get("spec") or {}
            labels |= spec.get("nodeLabels") or {}
            tolerations += spec.get("tolerations") or []
        return replace(
            seen,
            node_labels=tuple(sorted(labels.items())),
            tolerations=tuple(tuple(sorted(each.items())) for each in tolerations),
        )

    async def _with_position(self, job: FineTuneJob, seen: SeenWorkload) -> SeenWorkload:
        """Return a Workload that waits with its place in the queue."""
        queue = queue_of(job.status)
        if seen.admitted or seen.evicted or seen.finished or not seen.active:
            return seen
        return replace(seen, position=await self.positions.of(job.metadata.namespace, queue, seen.name))

    async def create(self, job: FineTuneJob, manifest: Raw) -> bool:
        """Create a Workload with the value of its priority class. Raises Forbidden where Kueue or the class is not there."""
        reference = manifest["spec"].get("priorityClassRef")
        if reference is not None:
            value = await self._priority(reference)
            manifest = {**manifest, "spec": {**manifest["spec"], "priority": value}}
        name, namespace = manifest["metadata"]["name"], job.metadata.namespace
        answer = await self.api.write("POST", workloads(namespace), manifest)
        if answer.status == 404:
            raise Forbidden(MISSING)
        if answer.status == 409:
            there = (await self.api.get(workloads(namespace, name))).expect(200)
            if controller_uid(there) != job.metadata.uid:
                raise NameConflict(f"Workload {name} already exists and does not belong to this job: delete it")
            return False
        answer.check(201)
        return True

    async def _priority(self, reference: Raw) -> int:
        kind, name = reference["kind"], reference["name"]
        answer = await self.api.get(f"{CLASSES[kind]}/{name}")
        if answer.status == 404:
            raise Forbidden(f"{kind} {name} does not exist: create it, or delete the job and apply it with another one")
        return int(answer.expect(200)["value"])

    async def delete(self, job: FineTuneJob, child: Child) -> None:
        """Delete a Workload; one that is gone is gone."""
        path = workloads(job.metadata.namespace, child.name)
        answer = await self.api.write("DELETE", path, delete_options(child.uid))
        if answer.status not in (200, 202, 404):
            raise Conflict(answer.message)

    async def finish(self, job: FineTuneJob, end: Finish) -> None:
        """Say that the job of a Workload has ended; one that is gone needs no end."""
        now = timestamp(self.api.clock.now())
        said = {
            "type": "Finished",
            "status": "True",
            "reason": end.reason,
            "message": end.message,
            "lastTransitionTime": now,
        }
        meta = {"name": end.name, "namespace": job.metadata.namespace}
        body = {"apiVersion": KUEUE_VERSION, "kind": "Workload", "metadata": meta, "status": {"conditions": [said]}}
        path = f"{workloads(job.metadata.namespace, end.name)}/status?fieldManager=finetune-operator&force=true"
        answer = await self.api.write("PATCH", path, body, APPLY_PATCH)
        if answer.status != 404:
            answer.check(200)
