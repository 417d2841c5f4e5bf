"""FineTunePlans: created before the status that names them, read once by whoever continues a job. Called by cluster.

They are not watched: their content never changes, and a finished job needs nothing of it.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from finetune_operator.api.group import PLAN_KIND
from finetune_operator.api.pinned import PARTS, is_pinned, named, same_pinned
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus, ReportedStatus
from finetune_operator.controller.api import Api
from finetune_operator.controller.parsed import BUSY_JOBS, joined_job, parsed_job, reported_job
from finetune_operator.controller.store import Store, forget_oldest
from finetune_operator.controller.stored import Raw, Stored, collection, controller_uid, leaves_soon, picked
from finetune_operator.errors import Conflict, Forbidden, NameConflict
from finetune_operator.lifecycle.conditions import has_ended, has_succeeded
from finetune_operator.manifests.plan import fine_tune_plan

GONE = ""
"""The text of a FineTunePlan that does not exist."""


def needs_plan(status: ReportedStatus) -> bool:
    """Tell whether passes over a job read its plan: not of a job that has ended for good."""
    return not has_ended(status) or not (status.attempts or has_succeeded(status))


@dataclass(slots=True)
class Plans:
    """Speaks to the API server about FineTunePlans, and keeps the text of those that passes read."""

    api: Api
    store: Store
    _texts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Job uid -> name and text of its FineTunePlan."""
    _jobs: OrderedDict[str, FineTuneJob] = field(default_factory=OrderedDict)
    """Job uid -> the job as we wrote or read it last, which need not be read again. None that has ended for good."""
    _rewinds: int = 0
    """The store's, when what is kept was read."""

    def forget(self, uid: str) -> None:
        """Drop what was kept of a deleted job."""
        self._texts.pop(uid, None)
        self._jobs.pop(uid, None)

    def wrote(self, job: FineTuneJob, status: FineTuneJobStatus, sent: Raw, answered: Raw) -> None:
        """Keep a job whose status the API server has taken as it was sent, while passes look at it."""
        self._jobs.pop(job.metadata.uid, None)
        if answered.get("status") != sent["status"] or not needs_plan(status):
            return
        status = named(status, sent["status"].get("planName"))
        meta = job.metadata.model_copy(update={"resource_version": answered["metadata"]["resourceVersion"]})
        self._remember(FineTuneJob.model_construct(metadata=meta, spec=job.spec, status=status))

    def _remember(self, job: FineTuneJob) -> FineTuneJob:
        uid = job.metadata.uid
        self._jobs[uid] = job
        self._jobs.move_to_end(uid)
        forget_oldest(self._jobs, BUSY_JOBS)
        return job

    async def whole(self, stored: Stored) -> FineTuneJob:
        """Return a job with what is pinned. Raises ValidationError where it is not one we can read.

        Without it where the job has ended, and where the FineTunePlan is gone: before the first attempt as if it had never been.
        """
        if self._rewinds != self.store.rewinds:
            self._rewinds = self.store.rewinds
            self._jobs.clear()
        known = self._jobs.get(stored.uid)
        if known is not None and known.metadata.resource_version == str(stored.version):
            return known
        if not stored.plan_name:
            job = parsed_job(stored.text)
            return self._remember(job) if needs_plan(job.status) else job
        reported = reported_job(stored.text)
        if not needs_plan(reported.status):
            self.forget(stored.uid)
            return joined_job(reported, GONE)
        text = await self._text(stored)
        job = joined_job(reported, text)
        return self._remember(job) if text else (job if job.status.attempts else unplanned(job))

    async def _text(self, stored: Stored) -> str:
        name, text = self._texts.get(stored.uid, ("", GONE))
        if name == stored.plan_name:
            return text
        answer = await self.api.get(f"{collection(PLAN_KIND, stored.namespace)}/{stored.plan_name}")
        if answer.status == 404:
            return GONE
        raw = answer.expect(200)
        return self._keep(stored.uid, raw) if controller_uid(raw) == stored.uid else GONE

    def _keep(self, uid: str, raw: Raw) -> str:
        text = orjson.dumps(picked(raw, PARTS)).decode()
        self._texts[uid] = str(raw["metadata"]["name"]), text
        return text

    async def pin(self, job: FineTuneJob, status: FineTuneJobStatus) -> str | None:
        """Create what a status pins, before the status names it; return its name. None: nothing is pinned.

        Raises as a child's create does.
        """
        if status == job.status or not is_pinned(status):
            return status.plan_name
        if job.status.plan_name and same_pinned(job.status, status):
            return job.status.plan_name
        if self.store.get(job.metadata.uid) is None:
            raise Conflict(f"{job.key} was deleted")
        manifest = fine_tune_plan(job, status)
        answer = await self.api.write("POST", collection(PLAN_KIND, job.metadata.namespace), manifest)
        if answer.status == 404:
            raise Forbidden(answer.message)  # the namespace is gone
        raw = await self._there(job, manifest) if answer.status == 409 else answer.expect(201)
        self._keep(job.metadata.uid, raw)
        return str(raw["metadata"]["name"])

    async def _there(self, job: FineTuneJob, manifest: Raw) -> Raw:
        """Return the FineTunePlan of this name, if it is the same: it was created before, and then the status could not be written."""
        name = manifest["metadata"]["name"]
        raw = (await self.api.get(f"{collection(PLAN_KIND, job.metadata.namespace)}/{name}")).expect(200)
        ours = controller_uid(raw) == job.metadata.uid
        if ours and is_kept(picked(raw, PARTS), picked(manifest, PARTS)):
            return raw
        if not ours and leaves_soon(raw, job.metadata.name):
            raise Conflict(f"{PLAN_KIND} {name} of a deleted job with the same name is still being removed")
        raise NameConflict(f"{PLAN_KIND} {name} already exists and is not the one of this job: delete it")


def is_kept(stored: object, written: object) -> bool:
    """Tell whether something is as it was written, but for fields that older definitions in the cluster leave out."""
    if isinstance(stored, Mapping) and isinstance(written, Mapping):
        return all(name in written and is_kept(stored[name], written[name]) for name in stored)
    if isinstance(stored, list) and isinstance(written, list):
        return len(stored) == len(written) and all(map(is_kept, stored, written))
    return stored == written


def unplanned(job: FineTuneJob) -> FineTuneJob:
    """Return a job whose FineTunePlan is gone before its first attempt: preflight and plan are made again."""
    none = {"plan_name": None, "queue_name": None, "pod_group": None, "unread": None}
    return job.model_copy(update={"status": job.status.model_copy(update=none)})
