"""A cluster in miniature, in which the tests of decisions let jobs run. Called by the tests."""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from finetune_contract import Outcome, Progress
from finetune_operator.api.pinned import FineTunePlan, is_pinned, joined, reported
from finetune_operator.api.plan import PlanSummary
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.status import AttemptStatus, FineTuneJob, FineTuneJobStatus, ReportedJob, ReportedStatus
from finetune_operator.lifecycle.decide import decide
from finetune_operator.lifecycle.observation import (
    Child,
    Decision,
    Observation,
    Queue,
    Refusal,
    SeenPod,
    SeenPodGroup,
    SeenWorkload,
    Settings,
    Team,
)
from finetune_operator.lifecycle.passing import may_wait
from finetune_operator.manifests import names
from finetune_operator.manifests.plan import fine_tune_plan
from finetune_operator.planning.quota import UNLIMITED, NamespaceLimits

from tests.unit.lifecycle.lifecycle_builders import NOW, a_job, a_pool, examined, pinned_status


def stored(job: FineTuneJob, status: FineTuneJobStatus) -> FineTuneJob:
    """Return the job as it is read after a write: its status is split into what the job and a FineTunePlan hold, and joined again."""
    if status == job.status:
        return job
    plan = fine_tune_plan(job, status) if is_pinned(status) else None
    written = json.loads(json.dumps(reported(status, plan["metadata"]["name"] if plan else None)))
    parsed = ReportedJob.model_construct(
        metadata=job.metadata, spec=job.spec, status=ReportedStatus.model_validate(written)
    )
    return joined(parsed, FineTunePlan.model_validate(json.loads(json.dumps(plan))) if plan else None)


@dataclass
class World:
    """A cluster in miniature: it carries decisions out and lets the test play kubelet, scheduler and clock."""

    job: FineTuneJob
    pools: tuple[GPUPool, ...] = ()
    limits: NamespaceLimits = UNLIMITED
    team: Team | None = None
    queue: Queue = field(default_factory=Queue)
    pod_groups: tuple[SeenPodGroup, ...] = ()
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name of a Pod -> as it was created."""
    now: datetime = NOW
    pods: dict[str, SeenPod] = field(default_factory=dict)
    services: set[str] = field(default_factory=set)
    progress: Progress | None = None
    progress_at: datetime | None = None
    refusal: Refusal | None = None
    checkpoints_of: str = ""
    settings: Settings = field(default_factory=Settings)
    patient: bool = False
    """Never write a status that may wait."""
    quota: int = 1000
    """Pods that the namespace may have."""
    grace_seconds: int = 30
    created: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    job_deleted: bool = False
    decision: Decision | None = None

    @property
    def status(self) -> FineTuneJobStatus:
        return self.job.status

    def observe(self) -> Observation:
        return Observation(
            pods=tuple(self.pods[name] for name in sorted(self.pods)), services=tuple(sorted(self.services)),
            progress=self.progress, progress_at=self.progress_at, pools=self.pools, limits=self.limits, team=self.team, queue=self.queue,
            pod_groups=self.pod_groups,
            refusal=self.refusal,
            checkpoints_of=self.checkpoints_of, settings=self.settings,
        )  # fmt: skip

    def one_pass(self, most: int | None = None) -> Decision:
        """Decide and carry out, as controller.reconcile does; an operator that is killed gets so far: so many writes."""
        decision = decide(self.job, self.observe(), self.now)
        self.decision = decision
        deque(islice(self._writes(decision), most), maxlen=0)
        return decision

    def _writes(self, decision: Decision) -> Iterator[None]:
        """Carry out a decision, write by write."""
        if not (self.patient and may_wait(self.status, decision.status)):
            self.job = stored(self.job, decision.status)
            yield
        for manifest in decision.create:
            if not self._create(manifest):
                break
            yield
        for name in decision.ungate:
            self.pods[name] = replace(self.pods[name], gated=False)
            yield
        for child in decision.delete:
            self._delete(child)
            yield
        self.job_deleted = self.job_deleted or decision.delete_job

    def settle(self, most: int = 10) -> "World":
        """Make passes until nothing changes any more."""
        for _ in range(most):
            before = (self.job, dict(self.pods), set(self.services), self.queue)
            self.one_pass()
            if (self.job, self.pods, self.services, self.queue) == before:
                return self
        raise AssertionError(f"no fixed point within {most} passes: {self.decision}")

    def _create(self, manifest: dict[str, Any]) -> bool:
        meta, labels = manifest["metadata"], manifest["metadata"]["labels"]
        if manifest["kind"] == "Service":
            self.services.add(meta["name"])
            return True
        if manifest["kind"] == "Workload":
            new = SeenWorkload(name=meta["name"], uid=meta["name"], attempt=int(labels[names.ATTEMPT_LABEL]))
            self.manifests[f"Workload {meta['name']}"] = manifest
            self.queue = replace(self.queue, workloads=(*self.queue.workloads, new))
            return True
        if manifest["kind"] == "PodGroup":
            self.manifests[f"PodGroup {meta['name']}"] = manifest
            new = SeenPodGroup(name=meta["name"], uid=meta["name"], attempt=int(labels[names.ATTEMPT_LABEL]))
            self.pod_groups = (*(each for each in self.pod_groups if each.name != new.name), new)
            return True
        if meta["name"] in self.pods:
            return True
        if sum(1 for pod in self.pods.values() if not pod.finished) >= self.quota:
            self.refusal = Refusal(reason="QuotaExceeded", message="exceeded quota: gpu", at=self.now)
            return False
        self.refusal = None
        self.created.append(meta["name"])
        self.manifests[meta["name"]] = manifest
        self.pods[meta["name"]] = SeenPod(
            name=meta["name"], uid=f"{meta['name']}#{len(self.created)}", role=labels[names.ROLE_LABEL],
            owner_uid=meta["ownerReferences"][0]["uid"], generation=int(labels.get(names.GENERATION_LABEL, 0)),
            attempt=int(labels.get(names.ATTEMPT_LABEL, 0)), replica=int(labels.get(names.REPLICA_LABEL, 0)),
            gated=bool(manifest["spec"].get("schedulingGates")), created_at=self.now,
        )  # fmt: skip
        return True

    def _delete(self, child: Child) -> None:
        if child.kind == "Service":
            self.services.discard(child.name)
            return
        if child.kind == "PodGroup":
            self.pod_groups = tuple(each for each in self.pod_groups if each.name != child.name)
            return
        if child.kind == "Workload":
            self.queue = replace(
                self.queue, workloads=tuple(each for each in self.queue.workloads if each.name != child.name)
            )
            return
        pod = self.pods.get(child.name)
        if pod is None or pod.uid != child.uid:
            return
        self.deleted.append(child.name)
        if child.grace_seconds == 0:  # the API server does not wait for the kubelet
            del self.pods[child.name]
            return
        self.remove(child.name)

    def remove(self, name: str) -> None:
        """Delete a Pod as the API server does: one that has a node and still runs gets its grace."""
        pod = self.pods[name]
        if pod.deleting and not pod.finished:
            return
        if pod.node_name and not pod.finished:
            by = self.now + timedelta(seconds=self.grace_seconds)
            self.pods[name] = replace(pod, deleting=True, delete_by=by)
        else:
            del self.pods[name]

    def kueue(self, name: str, **parts: Any) -> "World":
        """Let Kueue change a Workload."""
        changed = tuple(replace(each, **parts) if each.name == name else each for each in self.queue.workloads)
        self.queue = replace(self.queue, workloads=changed)
        return self

    def later(self, seconds: float) -> "World":
        self.now += timedelta(seconds=seconds)
        return self

    def change(self, name: str, **parts: Any) -> "World":
        self.pods[name] = replace(self.pods[name], **parts)
        return self

    def schedule(self, name: str, node: str = "node-1") -> "World":
        return self.change(name, scheduled_at=self.now, node_name=node)

    def run(self, name: str, node: str = "node-1") -> "World":
        return self.schedule(name, node).change(name, phase="Running")

    def end(self, name: str, exit_code: int, outcome: Outcome | None = None, **parts: Any) -> "World":
        """Let a container end; a Pod that is being deleted stays until the next call of `reap`."""
        phase = "Succeeded" if exit_code == 0 else "Failed"
        return self.change(name, phase=phase, exit_code=exit_code, outcome=outcome, finished_at=self.now, **parts)

    def reap(self) -> "World":
        """Remove the Pods that were being deleted and have ended."""
        self.pods = {name: pod for name, pod in self.pods.items() if not (pod.deleting and pod.finished)}
        return self

    def vanish(self, name: str) -> "World":
        del self.pods[name]
        return self

    def report(self, progress: Progress) -> "World":
        self.progress, self.progress_at = progress, self.now
        return self

    def lose_plan(self) -> "World":
        """Delete the FineTunePlan, as an operator sees it that starts anew."""
        self.job = joined(
            self.job.model_copy(update={"status": self.status.model_copy(update={"plan": summary(self.job)})}), None
        )
        return self

    def edit(self, **spec: Any) -> "World":
        """Change the spec as a user does."""
        data = self.job.spec.model_dump(by_alias=True) | spec
        meta = self.job.metadata.model_copy(update={"generation": self.job.metadata.generation + 1})
        self.job = FineTuneJob(metadata=meta, spec=data, status=self.job.status)
        return self

    @property
    def attempts(self) -> list[AttemptStatus]:
        return self.status.attempts or []

    @property
    def conditions(self) -> dict[str, str]:
        """Status and reason of each condition."""
        return {found.type: f"{found.status} {found.reason}" for found in self.status.conditions}

    def condition(self, kind: str) -> tuple[str, str, str]:
        found = next(item for item in self.status.conditions if item.type == kind)
        return (found.status, found.reason, found.message)


def summary(job: FineTuneJob) -> PlanSummary | None:
    """Return what a job's status says about its plan."""
    return ReportedStatus.model_validate(json.loads(json.dumps(reported(job.status, "named")))).plan


def a_world(*, pool: GPUPool | None = None, **spec: Any) -> World:
    """Return a cluster in which the job has just been created."""
    return World(job=a_job(**spec), pools=(pool or a_pool(),))


def a_planned_world(*, pool: GPUPool | None = None, plan: dict[str, Any] | None = None, **spec: Any) -> World:
    """Return a cluster in which preflight is done, a plan of our own is pinned and the Pods of attempt 0 exist. `plan` replaces parts."""
    world = a_world(pool=pool, **spec).settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined())
    pinned = pinned_status(world.job, world.pools[0], **(plan or {}))
    world.job = world.job.model_copy(update={"status": pinned})
    return world.settle()


def a_training_world(*, pool: GPUPool | None = None, plan: dict[str, Any] | None = None, **spec: Any) -> World:
    """Return a cluster in which attempt 0 runs, on one node per replica."""
    world = a_planned_world(pool=pool, plan=plan, **spec)
    for number, name in enumerate(sorted(name for name in world.pods if name.startswith("bot-0-"))):
        world.run(name, f"node-{number + 1}")
    return world.settle()
