"""The API server as one pass needs it: look, write the status, create, ungate, delete, say. Called by reconcile."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from finetune_operator.api.group import JOB_KIND
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.controller import metrics
from finetune_operator.controller.api import MERGE_PATCH, STRATEGIC_MERGE_PATCH, Answer, Api
from finetune_operator.controller.bodies import delete_options, status_body
from finetune_operator.controller.creating import Creating
from finetune_operator.controller.events import Recorder
from finetune_operator.controller.limits import limits_for
from finetune_operator.controller.neighbours import at_same_checkpoints, may_share
from finetune_operator.controller.parsed import parsed_pods, parsed_pool
from finetune_operator.controller.patience import Patience
from finetune_operator.controller.plans import Plans
from finetune_operator.controller.pod_groups import PodGroups
from finetune_operator.controller.policies import team_of
from finetune_operator.controller.progress import ProgressReader
from finetune_operator.controller.queueing import Queueing
from finetune_operator.controller.refusals import Refusals
from finetune_operator.controller.seen import replica_zero, unended, unrecorded
from finetune_operator.controller.store import Store
from finetune_operator.controller.stored import Kind, collection, controller_uid
from finetune_operator.controller.tracing import Tracing
from finetune_operator.controller.warnings import Warnings
from finetune_operator.errors import ClusterUnavailable, Conflict, FinetuneError, ServerFailed
from finetune_operator.lifecycle.observation import (
    Child,
    Event,
    FailedWrite,
    Manifest,
    Observation,
    SeenPod,
    Settings,
)
from finetune_operator.lifecycle.team import month_of
from finetune_operator.manifests.names import GANG_GATE, JOB_UID_LABEL

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Cluster:
    """Typed access to the API server, through our store where reading is enough."""

    api: Api
    store: Store
    recorder: Recorder
    progress: ProgressReader
    warnings: Warnings
    settings: Settings
    read_logs: bool = True
    tracing: Tracing = field(default_factory=Tracing)
    failures: dict[str, FailedWrite] = field(default_factory=dict)
    """Job uid -> the write that failed last; until a pass has done all that it wanted."""
    patience: Patience = field(init=False)
    refusals: Refusals = field(init=False)
    queueing: Queueing = field(init=False)
    plans: Plans = field(init=False)
    creating: Creating = field(init=False)

    def __post_init__(self) -> None:
        self.patience = Patience(self.api.pace)
        self.refusals = Refusals(self.store)
        self.queueing = Queueing(self.api)
        self.plans = Plans(self.api, self.store)
        self.creating = Creating(self.api, self.store)

    async def job(self, uid: str) -> FineTuneJob | None:
        """Return the job as the store knows it, with its plan. Raises ValidationError where it is not one we can read."""
        stored = self.store.get(uid)
        return None if stored is None else await self.plans.whole(stored)

    def forget(self, uid: str) -> None:
        """Drop what was remembered about a deleted job."""
        self.refusals.forget(uid)
        self.queueing.forget(uid)
        self.plans.forget(uid)
        self.failures.pop(uid, None)
        self.patience.forget(uid)
        self.progress.forget(uid)
        self.recorder.forget(uid)

    async def observe(self, job: FineTuneJob) -> Observation:
        """Return everything that a decision may look at, taken at one moment from the store."""
        uid = job.metadata.uid
        pods = self._pods(job)
        services = self.store.members(job.key, "Service")
        reading = self.progress.newest(uid, replica_zero(pods, uid))
        return Observation(
            pods=pods,
            taken=unended(uid, parsed_pods(stored.text for stored in self.store.taken(job.key))),
            services=tuple(stored.name for stored in services if stored.owner_uid == uid),
            progress=reading.progress if reading else None,
            progress_at=reading.at if reading else None,
            pools=self.pools(),
            limits=limits_for(self.store, job),
            team=team_of(self.store, job.metadata.namespace, uid, month_of(self.api.clock.now())),
            queue=await self.queueing.read(job),
            pod_groups=await PodGroups(self.api).read(job),
            refusal=self.refusals.of(job),
            failed_write=self.failures.get(uid),
            checkpoints_of=self._neighbour(job),
            settings=self.settings,
        )

    def _pods(self, job: FineTuneJob) -> tuple[SeenPod, ...]:
        present = parsed_pods(stored.text for stored in self.store.members(job.key, "Pod"))
        departed = parsed_pods(stored.text for stored in self.store.departed(job.key))
        return tuple(map(self._warned(job), (*present, *unrecorded(job, present, departed))))

    def _warned(self, job: FineTuneJob) -> Callable[[SeenPod], SeenPod]:
        meta = job.metadata

        def warned(pod: SeenPod) -> SeenPod:
            if pod.owner_uid != meta.uid or pod.phase != "Pending":
                return pod
            said = self.warnings.about(meta.namespace, meta.uid, pod)
            return replace(pod, warning=said.warning, autoscaler=said.autoscaler)

        return warned

    def _neighbour(self, job: FineTuneJob) -> str:
        stored = self.store.get(job.metadata.uid)
        destination = job.spec.checkpoint.destination
        if stored is None or job.status.attempts or destination is None:
            return ""
        jobs = self.store.of_kind("FineTuneJob")
        others = (each.raw for each in jobs if each.uid != stored.uid and may_share(each, destination))
        return at_same_checkpoints(stored.raw, others)

    def pools(self) -> tuple[GPUPool, ...]:
        """Return the readable GPUPools, by name."""
        found = []
        for stored in self.store.of_kind("GPUPool"):
            try:
                found.append(parsed_pool(stored.text))
            except ValidationError as error:  # a field of a newer CRD: this pool cannot be planned with
                log.warning("GPUPool cannot be read and is ignored", extra={"pool": stored.name, "error": str(error)})
        return tuple(sorted(found, key=lambda pool: pool.metadata.name))

    def next_reading(self, job: FineTuneJob, seen: Observation) -> float | None:
        """Keep reading the log of a running trainer; return the seconds until the next reading, None: never."""
        zero = replica_zero(seen.pods, job.metadata.uid)
        if not self.read_logs or zero is None or zero.phase != "Running" or zero.deleting:
            return None
        return self.progress.follow(job, zero)

    async def write_status(self, job: FineTuneJob, status: FineTuneJobStatus, plan_name: str | None) -> bool:
        """Write the whole status if it differs; tell whether that changed the job. Raises Conflict when somebody wrote first.

        It changes nothing where the CRDs are older than this operator: the API server drops the fields that it does not know.
        """
        if status == job.status:
            return False
        if self.store.get(job.metadata.uid) is None:
            raise Conflict(f"{job.key} was deleted")
        body = status_body(job, status, plan_name)
        path = f"{collection(JOB_KIND, job.metadata.namespace)}/{job.metadata.name}/status"
        answer = await self.api.write("PUT", path, body)
        if answer.status == 409:
            with contextlib.suppress(FinetuneError):  # what follows is raised anyway
                await self._look_again(job)
        written = answer.expect(200)
        self.store.put("FineTuneJob", written)
        self.plans.wrote(job, status, body, written)
        return bool(written["metadata"]["resourceVersion"] != job.metadata.resource_version)

    async def require_unchanged(self, job: FineTuneJob) -> None:
        """Make sure that a job is there as it was read. Raises Conflict where it is not: its watch is late.

        A write of the status tells. Where there is none, what is gone with a deleted job would be created once more.
        """
        found = await self._look_again(job)
        if found is None or found["metadata"]["resourceVersion"] != job.metadata.resource_version:
            raise Conflict(f"{job.key} was {'deleted' if found is None else 'changed'}")

    async def _look_again(self, job: FineTuneJob) -> dict[str, Any] | None:
        """Read a job that somebody may have changed: the watch may be late, or may have lost the change. None: it is gone.

        A list of one: the watch needs the right to list anyway, so the operator asks for no other. A job that has taken the
        name is left to the watch: taken in here, it would be no news there, and never get a pass.
        """
        query = {"fieldSelector": f"metadata.name={job.metadata.name}"}
        answer = await self.api.get(collection(JOB_KIND, job.metadata.namespace), query)
        for found in answer.expect(200)["items"]:
            if found["metadata"]["uid"] == job.metadata.uid:
                self.store.put("FineTuneJob", found)
                return dict(found)
        return None

    async def create(self, job: FineTuneJob, manifest: Manifest) -> bool:
        """Create a child; tell whether it is news to us. Raises what `Creating.create` does."""
        if manifest["kind"] == "Workload":
            return await self.queueing.create(job, manifest)
        if manifest["kind"] == "PodGroup":
            return await PodGroups(self.api).create(job, manifest)
        news = await self.creating.create(job, manifest)
        if news:
            self.refusals.forget(job.metadata.uid)
        return news

    async def keeps(self, raw: dict[str, Any]) -> bool:
        """Tell whether a Pod that left its watch is still there; the label that it was watched by is put back.

        Whoever takes the label away does not end the Pod: given up, it would train beside the next attempt.
        """
        meta, owner = raw["metadata"], controller_uid(raw)
        path = f"{collection('Pod', meta['namespace'])}/{meta['name']}"
        answer = await self.api.get(path)
        if answer.status != 200 or answer.body["metadata"]["uid"] != meta["uid"] or not owner:
            return False
        patch = {"metadata": {"uid": meta["uid"], "labels": {JOB_UID_LABEL: owner}}}
        (await self.api.write("PATCH", path, patch, MERGE_PATCH)).check(200)
        return True

    def remember_failure(self, job: FineTuneJob, what: str, error: FinetuneError) -> FailedWrite | None:
        """Let the next pass see what could not be written. No answer at all is not about this job."""
        if isinstance(error, ClusterUnavailable) and not isinstance(error, ServerFailed):
            return None
        metrics.FAILED_WRITES.labels(type(error).__name__).inc()
        before = self.failures.get(job.metadata.uid)
        times = before.times + 1 if before is not None else 1
        failed = self.failures[job.metadata.uid] = FailedWrite(what=what, message=str(error), times=times)
        return failed

    async def ungate(self, job: FineTuneJob, pod: str) -> None:
        """Lift our scheduling gate of a Pod; gates of others stay."""
        path = f"{collection('Pod', job.metadata.namespace)}/{pod}"
        patch = {"spec": {"schedulingGates": [{"$patch": "delete", "name": GANG_GATE}]}}
        answer = await self.api.write("PATCH", path, patch, STRATEGIC_MERGE_PATCH)
        self.store.put("Pod", answer.expect(200))

    async def delete(self, job: FineTuneJob, child: Child) -> None:
        """Delete a child unless it is gone already or another object has taken its name."""
        if child.kind == "Workload":
            await self.queueing.delete(job, child)
            return
        if child.kind == "PodGroup":
            await PodGroups(self.api).delete(job, child)
            return
        uid = child.uid or self._uid_of(job, child)
        self.store.dismiss(uid)  # before we ask: the answer may be lost
        path = f"{collection(child.kind, job.metadata.namespace)}/{child.name}"
        answer = await self.api.write("DELETE", path, delete_options(uid, child.grace_seconds))
        if answer.status == 409 and await self._exists(path, uid):
            raise Conflict(answer.message)
        self._take_deleted(answer, child.kind, uid)

    async def delete_job(self, job: FineTuneJob) -> None:
        """Delete the job itself; the garbage collector takes its children."""
        path = f"{collection(JOB_KIND, job.metadata.namespace)}/{job.metadata.name}"
        answer = await self.api.write("DELETE", path, delete_options(job.metadata.uid))
        if answer.status == 409:  # changed meanwhile, or another job's name by now: its watch tells which
            raise Conflict(answer.message)
        self._take_deleted(answer, "FineTuneJob", job.metadata.uid)

    async def _exists(self, path: str, uid: str) -> bool:
        """Tell whether the object with this uid is still there: not every conflict means that its name was taken."""
        answer = await self.api.get(path)
        return answer.status != 404 and answer.expect(200)["metadata"]["uid"] == uid

    def _uid_of(self, job: FineTuneJob, child: Child) -> str:
        known = self.store.members(job.key, "Service" if child.kind == "Service" else "Pod")
        ours = (each for each in known if each.owner_uid == job.metadata.uid)
        return next((stored.uid for stored in ours if stored.name == child.name), "")

    def _take_deleted(self, answer: Answer, kind: Kind, uid: str) -> None:
        if answer.status in (404, 409):  # gone, or its name belongs to another object now
            self.store.drop(uid)
            return
        raw = answer.expect(200, 202)
        if raw.get("kind") == kind and "deletionTimestamp" in raw["metadata"]:
            self.store.put(kind, raw)
        else:
            self.store.drop(uid)

    async def publish(self, job: FineTuneJob, events: tuple[Event, ...], now: datetime) -> None:
        """Say something about the job; what cannot be said is let go."""
        for event in events:
            await self.recorder.publish(job.metadata, event, now)
