"""What deleting a job does, and what is said about it. Called by delete."""

import asyncio
import json

from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.job_text import ended, exported
from finetune_operator.cli.jobs import Jobs
from finetune_operator.cli.store_here import (
    Place,
    checkpoint_place,
    claims_here,
    missing_claim,
    read_secret,
    run_at_store,
)
from finetune_operator.cli.trainer_here import check_installed
from finetune_operator.controller.stored import collection
from finetune_operator.errors import FinetuneError
from finetune_operator.manifests.names import JOB_UID_LABEL

GONE_SECONDS = 120.0
"""So long a trainer may take to save and end: its Pod must be gone before its checkpoints are."""

POLL_SECONDS = 0.5
WHAT = "deleting checkpoints"
GIB = 2**30


def question(job: ReportedJob, *, with_checkpoints: bool) -> str:
    """Return what is asked before a job is deleted."""
    running = "" if ended(job) is not None else f", which is {str(job.status.phase).lower()}"
    kept = " and its checkpoints: it cannot be continued" if with_checkpoints else ""
    return f"Delete {job.key}{running}{kept}?"


def stays(job: ReportedJob) -> list[str]:
    """Say where the result is, and the forms that were made of it; nothing before there is one."""
    if not job.status.adapter_uri:
        return []
    return [f"its result stays at {', '.join([job.status.adapter_uri, *(one.uri for one in exported(job.status))])}"]


async def delete(jobs: Jobs, name: str, claims: str | None) -> list[str]:
    """Delete a job; `claims` are known folders, None to leave the checkpoints alone. Returns what was done."""
    job = await jobs.get(name)
    place = checkpoint_place(job)
    if claims is not None:
        claims = claims_here(jobs, claims)
        await _refuse_unreachable(jobs, job, place, claims)
    await jobs.delete(name, job.metadata.uid)
    said = [f"deleted {job.key}", *stays(job)]
    if claims is None:
        began = bool(job.status.run_digest)
        return [*said, *([f"its checkpoints, prepared rows and logs stay at {place.uri}"] if began else [])]
    await _pods_gone(jobs, job)
    return [*said, await _forget(jobs, job, place, claims)]


async def _refuse_unreachable(jobs: Jobs, job: ReportedJob, place: Place, claims: str) -> None:
    """Raise FinetuneError before anything is deleted, where the checkpoints could not be."""
    check_installed(WHAT)
    if claim := missing_claim(place, claims):
        raise FinetuneError(
            f"the checkpoints of {job.key} are in the PersistentVolumeClaim {claim}, which this machine cannot reach: mount it and "
            f"pass --claim {claim}=FOLDER, or leave out --with-checkpoints"
        )
    if place.secret:
        await read_secret(jobs, place.secret, WHAT)


async def _pods_gone(jobs: Jobs, job: ReportedJob) -> None:
    """Wait until no Pod of the job is left: one that still saves would leave a checkpoint behind."""
    deadline = asyncio.get_running_loop().time() + GONE_SECONDS
    while True:
        pods, _ = await jobs.api.list(collection("Pod", jobs.namespace), f"{JOB_UID_LABEL}={job.metadata.uid}")
        if not pods:
            return
        if asyncio.get_running_loop().time() > deadline:
            names = ", ".join(pod["metadata"]["name"] for pod in pods)
            raise FinetuneError(
                f"{job.key} is deleted, but its Pods are still there after {GONE_SECONDS:g} s ({names}), so its checkpoints were "
                "not deleted: delete the folder yourself once they are gone"
            )
        await asyncio.sleep(POLL_SECONDS)


async def _forget(jobs: Jobs, job: ReportedJob, place: Place, claims: str) -> str:
    arguments = ["forget", place.uri, job.metadata.uid, job.status.run_digest, place.secret]
    done = await run_at_store(jobs, place, arguments, claims=claims, what=WHAT)
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise FinetuneError(
            f"{job.key} is deleted, but its checkpoints at {place.uri} could not be: {words[-1] if words else 'no reason'}"
        )
    found = json.loads(done.stdout.splitlines()[-1])
    size = f"{found['bytes'] / GIB:,.2f} GiB" if found["bytes"] >= GIB / 100 else f"{found['bytes']:,} bytes"
    if found["takenOver"]:
        return f"another job continues from the checkpoints at {place.uri}: only the logs of this one were deleted ({size})"
    count = found["checkpoints"]
    return f"deleted {count} checkpoint{'' if count == 1 else 's'}, prepared rows and logs at {place.uri} ({size})"
