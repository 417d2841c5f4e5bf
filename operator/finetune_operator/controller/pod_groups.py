"""PodGroups of other schedulers: created, and nothing else. They go with the Pod that owns them. Called by cluster."""

from dataclasses import dataclass
from typing import Any

from finetune_operator.api.status import FineTuneJob
from finetune_operator.controller.api import Api
from finetune_operator.errors import Forbidden, NameConflict
from finetune_operator.manifests.names import JOB_UID_LABEL


@dataclass(frozen=True, slots=True)
class PodGroups:
    """Speaks to the API server about PodGroups."""

    api: Api

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
        answer.expect(201)
        return True
