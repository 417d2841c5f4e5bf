"""Whether an operator looks after a job, and what to start where none does. Called by submit, rerun, get and watch."""

import asyncio
from datetime import datetime

from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.jobs import Jobs
from finetune_operator.cli.target import Target

SEEN_WITHIN_SECONDS = 6.0
"""An operator that runs has looked at a new job after one to two seconds."""

POLL_SECONDS = 0.3


def unwatched_since(job: ReportedJob, now: datetime) -> float | None:
    """Return for how many seconds no operator has looked at a job, if that is longer than one takes; None otherwise."""
    if job.status.observed_generation:
        return None
    age = (now - datetime.fromisoformat(job.metadata.creation_timestamp)).total_seconds()
    return age if age > SEEN_WITHIN_SECONDS else None


def start_words(target: Target) -> str:
    """Say how to start an operator."""
    if target.local:
        name = "" if target.local == "default" else f" --name {target.local}"
        return f"start one with `finetune local up --operator{name}`"
    return "install one (docs/install.md), or run one from here with `finetune run`"


async def seen(jobs: Jobs, name: str) -> ReportedJob:
    """Return the job as soon as an operator has looked at it, or as it is after some seconds."""
    deadline = asyncio.get_running_loop().time() + SEEN_WITHIN_SECONDS
    while True:
        job = await jobs.get(name)
        if job.status.observed_generation or asyncio.get_running_loop().time() > deadline:
            return job
        await asyncio.sleep(POLL_SECONDS)
