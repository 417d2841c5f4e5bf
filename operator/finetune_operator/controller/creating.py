"""One child of a job is created, or found to be there already: ours, a stranger's, or left behind by a former job. Called by cluster."""

from dataclasses import dataclass
from typing import Any

from finetune_operator.api.group import GROUP
from finetune_operator.api.status import FineTuneJob
from finetune_operator.controller.api import MERGE_PATCH, Api
from finetune_operator.controller.bodies import delete_options
from finetune_operator.controller.store import Store
from finetune_operator.controller.stored import Kind, collection, controller_uid, controlling_owner, leaves_soon
from finetune_operator.errors import Conflict, Forbidden, NameConflict
from finetune_operator.lifecycle.observation import Manifest
from finetune_operator.manifests.names import JOB_NAME_LABEL, JOB_UID_LABEL, MANAGED_BY

Raw = dict[str, Any]


@dataclass(slots=True)
class Creating:
    """Speaks to the API server about new Pods and Services."""

    api: Api
    store: Store

    async def create(self, job: FineTuneJob, manifest: Manifest) -> bool:
        """Create a child; tell whether it is news to us. One of ours with that name is adopted as it is.

        Raises Conflict while a former owner's object is still going away, NameConflict for a stranger's, Forbidden when quota or
        admission refuses, or somebody has to remove what a former job left.
        """
        kind: Kind = manifest["kind"]
        answer = await self.api.write("POST", collection(kind, manifest["metadata"]["namespace"]), manifest)
        if answer.status == 409:
            return await self._adopt(job, manifest)
        if answer.status == 404:
            raise Forbidden(answer.message)  # the namespace is gone
        self.store.put(kind, await self._labelled(manifest, answer.expect(201)))
        return True

    async def _adopt(self, job: FineTuneJob, manifest: Manifest) -> bool:
        kind: Kind = manifest["kind"]
        answer = await self.api.get(path_of(manifest))
        raw = answer.expect(200)
        if controller_uid(raw) == job.metadata.uid:
            return self.store.put(kind, await self._labelled(manifest, raw))
        name = f"{kind} {raw['metadata']['name']}"
        if leaves_soon(raw, job.metadata.name):
            raise Conflict(f"{name} of a deleted job with the same name is still being removed")
        if former := former_job(raw, job.metadata.name):
            raise Forbidden(
                f"{name} was left behind by a former job of this name, which was deleted without its Pods or restored from a backup, and "
                f"may still be running: this job continues as soon as `kubectl delete pods,services -n {job.metadata.namespace} "
                f"-l {JOB_UID_LABEL}={former}` has removed it"
            )
        raise NameConflict(
            f"{name} already exists and does not belong to this job: delete it, or apply the job under a new name "
            "with another output.destination"
        )

    async def _labelled(self, manifest: Manifest, raw: Raw) -> Raw:
        """Return a child with its own labels, by which it is watched and found: a webhook may have replaced them.

        Raises Forbidden where they cannot be put back. The child is deleted then: nobody would see what becomes of it.
        """
        lost = lost_labels(manifest, raw)
        if not lost:
            return raw
        uid, path = raw["metadata"]["uid"], path_of(manifest)
        patch = {"metadata": {"uid": uid, "labels": lost}}
        kept = (await self.api.write("PATCH", path, patch, MERGE_PATCH)).expect(200)
        if not lost_labels(manifest, kept):
            return kept
        await self.api.write("DELETE", path, delete_options(uid))
        raise Forbidden(
            f"an admission webhook or policy changes the labels {', '.join(sorted(lost))} of {manifest['kind']} "
            f"{manifest['metadata']['name']}, and the operator cannot find it without them: exempt objects with the label "
            f"app.kubernetes.io/managed-by={MANAGED_BY} from it"
        )


def path_of(manifest: Manifest) -> str:
    """Return the path of an object."""
    meta = manifest["metadata"]
    return f"{collection(manifest['kind'], meta['namespace'])}/{meta['name']}"


def lost_labels(manifest: Manifest, raw: Raw) -> dict[str, str]:
    """Return our own labels that an object does not have as they were sent. What others add or change of theirs is theirs."""
    has = raw["metadata"].get("labels") or {}
    ours = {key: value for key, value in manifest["metadata"]["labels"].items() if key.startswith(f"{GROUP}/")}
    return {key: value for key, value in ours.items() if has.get(key) != value}


def former_job(raw: Raw, job_name: str) -> str:
    """Return the uid of the job of the same name that left an object without an owner behind; empty for a stranger's."""
    labels = raw["metadata"].get("labels") or {}
    ours = labels.get(JOB_NAME_LABEL) == job_name and not controlling_owner(raw)
    return str(labels.get(JOB_UID_LABEL, "")) if ours else ""
