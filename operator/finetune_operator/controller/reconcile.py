"""One pass over one job: look, decide, enact. Called by the queue's workers; calls lifecycle.decide and cluster."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from pydantic import ValidationError

from finetune_operator.api.reasons import ConditionType, Phase, WaitingReason
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.controller import metrics
from finetune_operator.controller.cluster import Cluster
from finetune_operator.controller.policies import policy_of
from finetune_operator.controller.unreadable import say_unplanned, say_unreadable
from finetune_operator.errors import FinetuneError, Forbidden, NameConflict, ServerFailed
from finetune_operator.lifecycle.conditions import find
from finetune_operator.lifecycle.decide import TOLD_FAILURES, decide
from finetune_operator.lifecycle.observation import Decision, Event
from finetune_operator.lifecycle.passing import is_settled

log = logging.getLogger(__name__)

MULTIKUEUE = "kueue.x-k8s.io/multikueue"

IDLE_SECONDS = 1.0
"""What is due and cannot be done yet is looked at again after so long, where it would otherwise be at once and without end."""

AT_A_TIME = 16
"""Requests for one job at the same time."""


@dataclass(slots=True)
class Tally:
    """What one pass did."""

    wrote: int = 0
    created: int = 0
    refused: int = 0
    """Not created; the next pass has something new to see."""
    ungated: int = 0
    deleted: int = 0
    doing: str = ""
    """The write in progress, for when it fails."""

    @property
    def acted(self) -> bool:
        """It changed something beside the status, or tried to."""
        return bool(self.created or self.refused or self.ungated or self.deleted)


async def reconcile(job: FineTuneJob, cluster: Cluster, now: datetime) -> float | None:
    """Make one pass: look, decide, enact. Safe to repeat, safe to interrupt. Returns the seconds to the next one."""
    tally, started = Tally(), time.perf_counter()
    seen = await cluster.observe(job)
    decision = decide(job, seen, now)
    wait = cluster.patience.left(job, decision.status)
    if not wait:
        tally.wrote += await write_status(job, decision, cluster, now)  # intent first, fenced by resourceVersion
    if tally.wrote:
        count_growth(job, decision.status)
        cluster.tracing.tell(job, decision.status, now)
    elif decision.create and job.status.attempts:  # what was there before may be gone with the job
        await cluster.require_unchanged(job)
    try:
        await enact(job, decision, cluster, tally)
        recovered = cluster.failures.pop(job.metadata.uid, None) is not None
    except FinetuneError as error:
        cluster.remember_failure(job, tally.doing, error)
        raise
    finally:  # what the status says by now is told now: to the next pass it is no news
        await cluster.publish(job, () if wait else decision.events, now)
    count(job, decision.status, tally, time.perf_counter() - started)
    if recovered or (tally.acted and not waits_for_pods(decision, tally)):
        return 0.0  # look again: the decision may have been one step of several
    looks = (cluster.next_reading(job, seen), cluster.warnings.next_look(seen.pods))
    if tally.created:
        return soonest(cluster.patience.hold_seconds(), decision.requeue_after, wait or None, *looks)
    following = decision
    if tally.wrote and not is_settled(decision.status):  # it may have been one step of several
        following = decide(job.model_copy(update={"status": decision.status}), seen, now)
        if acts(following, decision.status):
            return 0.0
    due = soonest(following.requeue_after, wait or None, *looks)
    return due if tally.wrote or due != 0 else IDLE_SECONDS


async def write_status(job: FineTuneJob, decision: Decision, cluster: Cluster, now: datetime) -> bool:
    """Write the status after what it pins; where that cannot be, an Event is all that can tell."""
    doing = "create the FineTunePlan of this job"
    try:
        plan_name = await cluster.plans.pin(job, decision.status)
        doing = "write the status of this job"
        return await cluster.write_status(job, decision.status, plan_name)
    except (Forbidden, NameConflict, ServerFailed) as error:
        failed = cluster.remember_failure(job, doing, error)
        if failed is not None and failed.times >= TOLD_FAILURES:
            event = Event(type="Warning", reason=WaitingReason.WRITE_FAILED, message=failed.sentence)
            await cluster.publish(job, (event,), now)
        raise


async def enact(job: FineTuneJob, decision: Decision, cluster: Cluster, tally: Tally) -> None:
    """Create, ungate and delete what was decided. A refused create stops the creating; the next pass sees why."""
    try:
        for manifest in decision.create:
            tally.doing = f"create {manifest['kind']} {manifest['metadata']['name']}"
            tally.created += await cluster.create(job, manifest)
    except (Forbidden, NameConflict) as error:
        cluster.refusals.remember(job, error, cluster.api.clock.now())
        tally.refused += 1
        decision = replace(decision, ungate=())  # what a gang was to be released with is missing
    await ungate(job, decision, cluster, tally)
    await delete(job, decision, cluster, tally)
    for end in decision.finish:
        tally.doing = f"finish Workload {end.name}"
        await cluster.queueing.finish(job, end)


async def ungate(job: FineTuneJob, decision: Decision, cluster: Cluster, tally: Tally) -> None:
    """Lift the gates of a gang, some at a time: its first Pods hold their nodes while the last ones wait."""
    for pods in batched(decision.ungate, AT_A_TIME):
        answers = await asyncio.gather(*(cluster.ungate(job, pod) for pod in pods), return_exceptions=True)
        for pod, answer in zip(pods, answers, strict=True):
            if isinstance(answer, BaseException):
                tally.doing = f"lift the scheduling gate of Pod {pod}"
                raise answer
            tally.ungated += 1


def batched(names: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    """Yield so many at a time."""
    return (names[start : start + size] for start in range(0, len(names), size))


async def delete(job: FineTuneJob, decision: Decision, cluster: Cluster, tally: Tally) -> None:
    """Delete what was decided. One that cannot be deleted does not keep the others; it is what the pass fails with."""
    failure: tuple[str, FinetuneError] | None = None
    for child in decision.delete:
        try:
            await cluster.delete(job, child)
            tally.deleted += 1
        except FinetuneError as error:
            failure = failure or (f"delete {child.kind} {child.name}", error)
    if failure is not None:
        tally.doing, first = failure
        raise first
    if decision.delete_job:
        tally.doing = "delete this job"
        await cluster.delete_job(job)
        tally.deleted += 1


def waits_for_pods(decision: Decision, tally: Tally) -> bool:
    """Tell whether all that was done is to create Pods, of which the next event comes soon.

    A gang's are held until all of them are there, which the next pass sees.
    """
    started = all(each["kind"] == "Pod" and not each["spec"].get("schedulingGates") for each in decision.create)
    return bool(tally.created) and started and not (tally.refused or tally.ungated or tally.deleted)


def acts(decision: Decision, status: FineTuneJobStatus) -> bool:
    """Tell whether a decision does more than to leave the status as it is."""
    steps = (decision.create, decision.ungate, decision.delete, decision.finish, decision.delete_job)
    return decision.status != status or any(steps)


def soonest(*delays: float | None) -> float | None:
    """Return the shortest of the delays that are set."""
    return min((delay for delay in delays if delay is not None), default=None)


def count(job: FineTuneJob, status: FineTuneJobStatus, tally: Tally, seconds: float) -> None:
    """Log one line and feed the metrics."""
    acted = bool(tally.wrote or tally.acted)
    metrics.RECONCILES.labels("changed" if acted else "unchanged").inc()
    metrics.RECONCILE_SECONDS.observe(seconds)
    log.log(
        logging.INFO if acted else logging.DEBUG,
        "pass",
        extra={
            "job": job.key,
            "phase": status.phase.value,
            "wrote": tally.wrote,
            "made": tally.created,
            "refused": tally.refused,
            "ungated": tally.ungated,
            "deleted": tally.deleted,
            "ms": round(seconds * 1000),
        },
    )


def count_growth(job: FineTuneJob, status: FineTuneJobStatus) -> None:
    """Feed the counters of GPU time, money and ends with what this pass added, and the start latency when the Pods run."""
    namespace, old = job.metadata.namespace, job.status
    if status.plan is not None and (grown := held_gpu_seconds(status) - held_gpu_seconds(old)) > 0:
        metrics.GPU_SECONDS.labels(namespace, status.plan.pool.gpu_type).inc(grown)
    if (spent := cost_usd(status) - cost_usd(old)) > 0:
        metrics.COST_USD.labels(namespace).inc(float(spent))
    for outcome in sorted(ended_attempts(status) - ended_attempts(old)):
        metrics.ATTEMPTS.labels(namespace, outcome[1]).inc()
    if (reason := end_of(status)) and not end_of(old):
        metrics.ENDED.labels(namespace, reason).inc()
    before, after = (first_running_time(each) for each in (old, status))
    if after and not before:
        waited = datetime.fromisoformat(after) - datetime.fromisoformat(job.metadata.creation_timestamp)
        metrics.START_LATENCY.observe(max(0.0, waited.total_seconds()))


def held_gpu_seconds(status: FineTuneJobStatus) -> int:
    """Return the GPU-seconds of all attempts."""
    return status.archived_gpu_seconds + sum(attempt.gpu_seconds for attempt in status.attempts or ())


def cost_usd(status: FineTuneJobStatus) -> Decimal:
    """Return the money spent so far."""
    return Decimal(status.cost.cost_usd) if status.cost else Decimal(0)


def ended_attempts(status: FineTuneJobStatus) -> set[tuple[int, str]]:
    """Return number and outcome of the attempts that have ended."""
    return {(attempt.number, attempt.outcome) for attempt in status.attempts or () if attempt.outcome}


def end_of(status: FineTuneJobStatus) -> str:
    """Return the reason of a job's end; empty while it has not ended."""
    succeeded = find(status, ConditionType.SUCCEEDED) if status.phase in (Phase.SUCCEEDED, Phase.FAILED) else None
    return succeeded.reason if succeeded is not None else ""


def first_running_time(status: FineTuneJobStatus) -> str:
    """Return when all Pods of the first attempt ran; empty before and once that attempt is no longer listed."""
    first = next((attempt for attempt in status.attempts or () if attempt.number == 0), None)
    return (first.running_time or "") if first else ""


def count_failure(error: Exception) -> None:
    """Feed the counters of passes that failed."""
    metrics.RECONCILES.labels("failed").inc()
    metrics.RECONCILE_ERRORS.labels(type(error).__name__).inc()


@dataclass(slots=True)
class Reconciler:
    """What the queue's workers call: from a key to a pass."""

    cluster: Cluster
    turns: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    """Namespace with a FineTunePolicy -> held by the job that may be given GPUs."""

    async def work(self, uid: str) -> float | None:
        """Make one pass over the job with this uid, if it still exists."""
        stored = self.cluster.store.get(uid)
        if stored is None:
            return None
        now = self.cluster.api.clock.now()
        try:
            job = await self.cluster.job(uid)
        except ValidationError as error:
            await say_unreadable(self.cluster.recorder, stored.raw, error, now)
            return None
        except FinetuneError as error:
            count_failure(error)
            await say_unplanned(self.cluster.recorder, stored.raw, error, now)
            raise
        return None if job is None else await self._pass(job, now)

    async def _pass(self, job: FineTuneJob, now: datetime) -> float | None:
        if job.spec.managed_by == MULTIKUEUE:
            return None  # Kueue copies it to a worker cluster, whose operator runs it, and copies the status back
        try:
            if not self._takes_turns(job):
                return await reconcile(job, self.cluster, now)
            async with self.turns[
                job.metadata.namespace
            ]:  # of two that look at once, both would see the same free GPUs
                return await reconcile(await self.cluster.job(job.metadata.uid) or job, self.cluster, now)
        except Exception as error:
            count_failure(error)
            raise

    def _takes_turns(self, job: FineTuneJob) -> bool:
        """Tell whether a pass may start an attempt, in a namespace whose jobs share limits."""
        attempts = job.status.attempts
        return (not attempts or attempts[-1].outcome is not None) and policy_of(
            self.cluster.store, job.metadata.namespace
        ) is not None
