"""What watch reads: jobs as they change, the losses so far from the trainer's log, the last Event."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from finetune_contract import parse_progress

from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.get_text import one_line
from finetune_operator.cli.job_text import ended
from finetune_operator.cli.jobs import POLL_SECONDS, Jobs, Patience
from finetune_operator.cli.plans import plan_of
from finetune_operator.cli.watch_view import Seen
from finetune_operator.controller.stored import collection
from finetune_operator.errors import ClusterUnavailable, FinetuneError
from finetune_operator.manifests.names import TRAINER_CONTAINER, trainer_pod_name

MOST_LINES = 5000
"""Of a log: enough for the curve, and read in a moment."""


@dataclass
class Losses:
    """The losses of the current attempt, first from its log and then from the status."""

    attempt: int = -1
    by_step: dict[int, float] = field(default_factory=dict)

    async def of(self, jobs: Jobs, job: ReportedJob) -> tuple[float, ...]:
        """Return all that is known now."""
        attempts = job.status.attempts or []
        if attempts and attempts[-1].number != self.attempt:
            self.attempt = attempts[-1].number
            self.by_step |= await from_log(jobs, job, self.attempt)
        progress = job.status.progress
        if progress is not None and progress.loss is not None and progress.step:
            self.by_step[progress.step] = float(progress.loss)
        return tuple(loss for _, loss in sorted(self.by_step.items()))


async def from_log(jobs: Jobs, job: ReportedJob, attempt: int) -> dict[int, float]:
    """Return step -> loss of what replica 0 has reported; nothing where its log cannot be read."""
    path = f"{collection('Pod', jobs.namespace)}/{trainer_pod_name(job.metadata.name, attempt, 0)}/log"
    try:
        answer = await jobs.api.get(path, {"container": TRAINER_CONTAINER, "tailLines": str(MOST_LINES)})
    except ClusterUnavailable:
        return {}
    reports = map(parse_progress, answer.text.splitlines()) if answer.status == 200 else ()
    return {report.step: report.loss for report in reports if report is not None and report.loss is not None}


async def last_event(jobs: Jobs, job: ReportedJob) -> str:
    """Return the newest Event of a job in one line; empty where there is none, or where Events may not be read."""
    path = f"/api/v1/namespaces/{jobs.namespace}/events"
    try:
        answer = await jobs.api.get(path, {"fieldSelector": f"involvedObject.uid={job.metadata.uid}"})
    except ClusterUnavailable:
        return ""
    return newest(answer.body.get("items") or []) if answer.status == 200 else ""


def newest(events: list[dict[str, Any]]) -> str:
    """Return the newest of some Events: time, reason and message."""

    def at(event: dict[str, Any]) -> str:
        return str(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")

    last = max(events, key=at, default=None)
    if last is None or not at(last):
        return ""
    return f"{datetime.fromisoformat(at(last)):%H:%M:%S} UTC {last.get('reason')}: {one_line(str(last.get('message')))}"


async def follow_one(jobs: Jobs, name: str) -> AsyncIterator[Seen]:
    """Yield the job each time it has changed, until it has ended."""
    losses, plan = Losses(), None
    planned: tuple[str | None, bool] = (None, False)
    async for job in jobs.follow(name):
        if (stands := (job.status.plan_name, job.status.plan is not None)) != planned:
            plan, planned = await plan_of(jobs, job), stands
        yield Seen(job=job, plan=plan, losses=await losses.of(jobs, job), event=await last_event(jobs, job))
        if ended(job) is not None:
            return


async def follow_all(jobs: Jobs, *, everywhere: bool) -> AsyncIterator[tuple[ReportedJob, ...]]:
    """Yield the jobs each time one of them has changed, until all have ended. Raises FinetuneError where there are none."""
    shown: tuple[tuple[str, str], ...] | None = None
    found: tuple[ReportedJob, ...] = ()
    patience = Patience()
    while True:
        with patience:
            found = await jobs.list(everywhere=everywhere)
        if not found and shown is None:
            place = "in any namespace" if everywhere else f"in namespace {jobs.namespace}"
            raise FinetuneError(f"no FineTuneJobs {place}: create one with `finetune submit job.yaml`")
        versions = tuple((job.metadata.uid, job.metadata.resource_version) for job in found)
        if versions != shown:
            shown = versions
            yield found
        if all(ended(job) is not None for job in found):
            return
        await asyncio.sleep(POLL_SECONDS)
