"""Logs that Pods have left beside the checkpoints. Called by logs, for a Pod that is gone."""

import asyncio
import base64
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from finetune_contract import ENV_ALLOW_FILE, ENV_CLAIMS, ENV_SECRETS, SECRET_KEYS, export_log_folder, log_folder

from finetune_operator.api.status import FineTuneJob
from finetune_operator.cli.data import check_installed
from finetune_operator.cli.jobs import Jobs
from finetune_operator.errors import FinetuneError
from finetune_operator.planning.defaults import checkpoint_of

NOTHING = 3
"""What the trainer's `stored` ends with where nothing was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where a log is."""

    uri: str
    """The checkpoint destination."""
    folder: str
    name: str
    secret: str

    def __str__(self) -> str:
        return f"{self.uri.rstrip('/')}/{self.folder}/{self.name}-*.log"


def kept_log(job: FineTuneJob, *, attempt: int | None, replica: int) -> Kept:
    """Return where the log of an attempt's replica is kept, of the newest preflight for attempt None."""
    place = checkpoint_of(job.spec.checkpoint, job.spec.output)
    name = f"generation-{job.status.preflight_generation}" if attempt is None else f"replica-{replica}"
    secret = place.credentials.secret_name if place.credentials is not None else ""
    return Kept(uri=place.destination, folder=log_folder(job.metadata.uid, attempt), name=name, secret=secret)


def kept_export_log(job: FineTuneJob) -> Kept:
    """Return where the log of the newest export Pod is kept."""
    place = checkpoint_of(job.spec.checkpoint, job.spec.output)
    number = job.status.export.number if job.status.export is not None else 0
    secret = place.credentials.secret_name if place.credentials is not None else ""
    folder = export_log_folder(job.metadata.uid)
    return Kept(uri=place.destination, folder=folder, name=f"export-{number}", secret=secret)


async def read_kept(kept: Kept, jobs: Jobs, *, claims: str) -> str | None:
    """Return the text, None where nothing was kept. Raises FinetuneError that says what is missing."""
    claim = kept.uri.removeprefix("pvc://").partition("/")[0]
    if kept.uri.startswith("pvc://") and f"{claim}=" not in claims:
        raise FinetuneError(
            f"its Pod is gone, and its log is kept at {kept}: mount the PersistentVolumeClaim {claim} and pass "
            f"--claim {claim}=FOLDER"
        )
    check_installed("reading the log of a Pod that is gone")
    with tempfile.TemporaryDirectory(prefix="finetune-logs-") as folder:
        environment = os.environ | {ENV_ALLOW_FILE: "1", ENV_CLAIMS: claims}
        if kept.secret:
            await write_secret(jobs, kept.secret, Path(folder))
            environment[ENV_SECRETS] = f"{kept.secret}={folder}"
        command = [sys.executable, "-m", "finetune_trainer", "stored", kept.uri, kept.folder, kept.name, kept.secret]
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode == NOTHING:
        return None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise FinetuneError(
            f"its Pod is gone, and its log at {kept} cannot be read: {said[-1] if said else 'no reason'}"
        )
    return done.stdout


async def write_secret(jobs: Jobs, name: str, folder: Path) -> None:
    """Write the documented keys of a Secret as files. Raises FinetuneError where it cannot be read."""
    answer = await jobs.api.get(f"/api/v1/namespaces/{jobs.namespace}/secrets/{name}")
    if answer.status != 200:
        raise FinetuneError(f"the Secret {name}, which opens the place, cannot be read: {answer.message}")
    for key, value in (answer.body.get("data") or {}).items():
        if key in SECRET_KEYS:
            (folder / key).write_bytes(base64.b64decode(value))
