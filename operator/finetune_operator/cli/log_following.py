"""A log as it grows: one attempt after the other, and on after a connection that has ended before the log has. Called by logs."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.jobs import POLL_SECONDS, JobNotFound, Jobs, Patience
from finetune_operator.cli.log_reading import Wanted, chosen, for_the_operator, log_path, nothing_to_show, pods_of
from finetune_operator.lifecycle.conditions import has_ended
from finetune_operator.lifecycle.observation import SeenPod
from finetune_operator.manifests.names import CONTAINERS

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*")


@dataclass
class Printed:
    """How far the log of a Pod has been printed. Load balancers end idle connections, and API servers restart."""

    pod: str = ""
    until: str = ""
    """Time of the last line, as the node stamped it."""

    async def on(self, jobs: Jobs, pod: SeenPod, tail: int) -> AsyncIterator[str]:
        """Yield the lines that are new, until the connection ends."""
        if pod.name != self.pod:
            self.pod, self.until = pod.name, ""
        query = {"container": CONTAINERS[pod.role], "follow": "true", "timestamps": "true"}
        query |= {"sinceTime": self.until} if self.until else {"tailLines": str(tail)} if tail else {}
        before = self.until
        async for line in jobs.api.lines(log_path(jobs, pod), query):
            stamp, _, text = line.partition(" ")
            if not STAMP.fullmatch(stamp):
                yield line
            elif stamp > before:
                self.until = stamp
                yield text


async def follow_log(jobs: Jobs, job: ReportedJob, wanted: Wanted, *, progress: bool, tail: int) -> None:
    """Print a log as it grows, until the job or its preflight has ended. Raises JobNotFound where there was none."""
    printed, over, last_look = Printed(), "", False
    asking, reading = Patience(), Patience()
    pods: tuple[SeenPod, ...] = ()
    while True:
        with asking:
            pods = await pods_of(jobs, job)
        pod = chosen(pods, wanted)
        if pod is not None and pod.name != over and pod.phase != "Pending":
            with reading:
                async for text in printed.on(jobs, pod, tail):
                    reading.heard()
                    if progress or not for_the_operator(text):
                        print(text, flush=True)
                over = pod.name if pod.finished else over
        with asking:
            job = await jobs.get(job.metadata.name)
        whole = pod is None or pod.name == over
        if (wanted.preflight and printed.pod and whole) or (has_ended(job.status) and (whole or last_look)):
            if not printed.pod:
                raise JobNotFound(nothing_to_show(job, pods, wanted))
            return
        last_look = has_ended(job.status)
        await asyncio.sleep(POLL_SECONDS)
