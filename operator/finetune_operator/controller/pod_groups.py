"""PodGroups of other schedulers: read for the jobs that have some, created, and deleted with their attempt. Called by cluster."""

from dataclasses import dataclass
from typing import Any

from finetune_operator.api.pool_pod import PodGroupKind
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.controller.api import Api
from finetune_operator.controller.bodies import delete_options
from finetune_operator.errors import Conflict, Forbidden, NameConflict
from finetune_operator.lifecycle.observation import Child, SeenPodGroup
from finetune_operator.manifests.names import ATTEMPT_LABEL, JOB_UID_LABEL
from finetune_operator.manifests.pod_groups import PLUGINS


def collection(job: FineTuneJob, kind: PodGroupKind) -> str:
    """Return the path of the PodGroups of a job's namespace."""
    return f"/apis/{PLUGINS[kind].version}/namespaces/{job.metadata.namespace}/podgroups"


def kind_of(status: FineTuneJobStatus) -> PodGroupKind | None:
    """Return whose PodGroups a job's attempts have; None for a run on one node, and where its pool wants none."""
    plan = status.plan
    if plan is None:
        return status.pod_group
    return plan.pool.pod.pod_group if plan.replicas > 1 else None


@dataclass(frozen=True, slots=True)
class PodGroups:
    """Speaks to the API server about PodGroups."""

    api: Api

    async def read(self, job: FineTuneJob) -> tuple[SeenPodGroup, ...]:
        """Return the job's PodGroups; none where its pool wants none, or they cannot be read."""
        kind = kind_of(job.status)
        if kind is None:
            return ()
        selector = f"{JOB_UID_LABEL}={job.metadata.uid}"
        answer = await self.api.get(collection(job, kind), {"labelSelector": selector})
        if answer.status in (403, 404):
            return ()
        metas = [each["metadata"] for each in answer.expect(200)["items"]]
        return tuple(
            SeenPodGroup(name=each["name"], uid=each["uid"], attempt=int(each["labels"].get(ATTEMPT_LABEL, -1)))
            for each in metas
        )

    async def delete(self, job: FineTuneJob, child: Child) -> None:
        """Delete a PodGroup; one that is gone is gone."""
        kind = kind_of(job.status)
        assert kind is not None
        answer = await self.api.write("DELETE", f"{collection(job, kind)}/{child.name}", delete_options(child.uid))
        if answer.status not in (200, 202, 404):
            raise Conflict(answer.message)

    async def create(self, job: FineTuneJob, manifest: dict[str, Any]) -> bool:
        """Create a PodGroup; tell whether it is new. Raises Forbidden where its scheduler is not installed or the right is missing."""
        version, name = manifest["apiVersion"], manifest["metadata"]["name"]
        path = f"/apis/{version}/namespaces/{job.metadata.namespace}/podgroups"
        answer = await self.api.write("POST", path, manifest)
        if answer.status == 404:
            raise Forbidden(
                f"the cluster has no PodGroups of {version}: install the scheduler that the GPUPool names in spec.pod.podGroup, "
                "or remove podGroup there and delete and re-apply the job"
            )
        if answer.status == 403:
            raise Forbidden(f"{answer.message}: set rbac.podGroups to true in the chart")
        if answer.status == 409:
            there = (await self.api.get(f"{path}/{name}")).expect(200)
            if (there["metadata"].get("labels") or {}).get(JOB_UID_LABEL) != job.metadata.uid:
                raise NameConflict(f"PodGroup {name} already exists and does not belong to this job: delete it")
            return False
        answer.check(201)
        return True
