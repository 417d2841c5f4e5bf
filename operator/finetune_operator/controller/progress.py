"""What the trainers' logs say: the newest progress line of replica 0, read now and then, never waited for by a pass."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from finetune_contract import Progress, parse_progress

from finetune_operator.api.status import FineTuneJob
from finetune_operator.controller.api import Api
from finetune_operator.errors import FinetuneError
from finetune_operator.lifecycle.observation import SeenPod
from finetune_operator.manifests.names import TRAINER_CONTAINER

log = logging.getLogger(__name__)

IN_FLIGHT = 20
"""Log requests at the same time: each holds a connection through the API server to a kubelet."""

READ_SECONDS = 10.0
TAIL_LINES = 400
TAIL_BYTES = 262_144
"""The end of a log. A trainer that prints more than this between two reports shows an older one until it calms down."""

WAITING_SECONDS = 1.0
"""A reading that hangs, or waits for its turn, is looked at so often."""

LONGEST_SECONDS = 120.0
STEPS_PER_RUN = 100
"""About so many readings per run: a bar that moves by one percent is as good as any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A report and when we read it first."""

    pod_uid: str
    progress: Progress
    at: datetime


def newest_progress(lines: Iterable[str]) -> Progress | None:
    """Return the last progress report among the lines of a log."""
    reports = (parse_progress(line) for line in reversed(list(lines)))
    return next((report for report in reports if report is not None), None)


def reading_interval(seconds_remaining: int | None, shortest: float) -> float:
    """Return how long to wait between readings: a hundredth of the remaining time, within bounds."""
    if seconds_remaining is None:
        return shortest
    return min(max(seconds_remaining / STEPS_PER_RUN, shortest), max(LONGEST_SECONDS, shortest))


def log_query(since_seconds: float | None) -> dict[str, str]:
    """Return the query of a log request that reads the end of what was printed since the last time."""
    query = {"container": TRAINER_CONTAINER, "tailLines": str(TAIL_LINES), "limitBytes": str(TAIL_BYTES)}
    return query if since_seconds is None else query | {"sinceSeconds": str(int(since_seconds) + 5)}


@dataclass(slots=True)
class Followed:
    """One job whose log is read."""

    pod_uid: str
    due: float
    read_at: float | None = None
    task: "asyncio.Task[None] | None" = None


@dataclass(slots=True)
class ProgressReader:
    """Reads the logs of running trainers in the background and asks for a pass when a report is new."""

    api: Api
    shortest_seconds: float
    ask_for_pass: Callable[[str], None]
    _readings: dict[str, Reading] = field(default_factory=dict)
    _followed: dict[str, Followed] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT))

    def newest(self, job_uid: str, pod: SeenPod | None) -> Reading | None:
        """Return the newest report of this very Pod."""
        reading = self._readings.get(job_uid)
        return reading if reading is not None and pod is not None and reading.pod_uid == pod.uid else None

    def forget(self, job_uid: str) -> None:
        """Stop reading for a job."""
        self._readings.pop(job_uid, None)
        followed = self._followed.pop(job_uid, None)
        if followed is not None and followed.task is not None:
            followed.task.cancel()

    def follow(self, job: FineTuneJob, pod: SeenPod) -> float:
        """Read the log if it is time to; return the seconds until it is time again."""
        now = asyncio.get_running_loop().time()
        uid = job.metadata.uid
        followed = self._followed.get(uid)
        if followed is None or followed.pod_uid != pod.uid:
            self.forget(uid)
            followed = self._followed[uid] = Followed(pod.uid, due=now)
        if now >= followed.due:
            if followed.task is not None and not followed.task.done():
                return max(WAITING_SECONDS, self.shortest_seconds)  # a new report asks for a pass by itself
            remaining = job.status.progress.seconds_remaining if job.status.progress else None
            wait = reading_interval(remaining, self.shortest_seconds)
            followed.due = now + wait * random.uniform(0.9, 1.1)  # noqa: S311  # spreads requests; nothing secret
            followed.task = asyncio.create_task(self._read(job, pod, followed), name=f"log of {pod.name}")
        return max(0.1, followed.due - now)

    async def _read(self, job: FineTuneJob, pod: SeenPod, followed: Followed) -> None:
        now = asyncio.get_running_loop().time()
        since = None if followed.read_at is None else now - followed.read_at
        path = f"/api/v1/namespaces/{job.metadata.namespace}/pods/{pod.name}/log"
        try:
            async with self._slots:
                answer = await self.api.request("GET", path, query=log_query(since), seconds=READ_SECONDS)
            answer.check(200)
        except FinetuneError as error:  # an unreadable log is not a stall: the Pod's status will tell
            log.debug("trainer log could not be read", extra={"job": job.key, "pod": pod.name, "error": str(error)})
            return
        followed.read_at = now
        self._take(job.metadata.uid, pod.uid, newest_progress(answer.text.splitlines()))

    def _take(self, job_uid: str, pod_uid: str, progress: Progress | None) -> None:
        old = self._readings.get(job_uid)
        if progress is None or (old is not None and old.pod_uid == pod_uid and old.progress == progress):
            return
        self._readings[job_uid] = Reading(pod_uid=pod_uid, progress=progress, at=self.api.clock.now())
        self.ask_for_pass(job_uid)
