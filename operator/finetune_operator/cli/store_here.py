"""A job's store, opened from this machine with the job's Secret, by the trainer's own code. Called by kept_log and delete."""

import asyncio
import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_contract import ENV_ALLOW_FILE, ENV_CLAIMS, ENV_SECRETS, SECRET_KEYS

from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.jobs import Jobs
from finetune_operator.cli.trainer_here import check_installed
from finetune_operator.errors import FinetuneError
from finetune_operator.planning.defaults import checkpoint_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A checkpoint destination."""

    uri: str
    secret: str
    """Empty without one."""


def checkpoint_place(job: ReportedJob) -> Place:
    """Return where a job keeps its checkpoints."""
    place = checkpoint_of(job.spec.checkpoint, job.spec.output)
    secret = place.credentials.secret_name if place.credentials is not None else ""
    return Place(uri=place.destination, secret=secret)


def claims_here(jobs: Jobs, given: str) -> str:
    """Return the folders of claims that are known: those given, and on the local cluster all of the namespace."""
    if not jobs.target.local:
        return given
    folder = Path(jobs.target.kubeconfig).parent / "claims" / jobs.namespace
    named = {pair.partition("=")[0] for pair in given.split(":") if pair}
    found = [f"{path.name}={path}" for path in sorted(folder.glob("*")) if path.name not in named]
    return ":".join([*([given] if given else []), *found])


def missing_claim(place: Place, claims: str) -> str:
    """Return the claim that a place is in and that no folder is known for; empty without one."""
    claim = place.uri.removeprefix("pvc://").partition("/")[0]
    named = {pair.partition("=")[0] for pair in claims.split(":")}
    return claim if place.uri.startswith("pvc://") and claim not in named else ""


async def run_at_store(
    jobs: Jobs, place: Place, arguments: Sequence[str], *, claims: str, what: str
) -> subprocess.CompletedProcess[str]:
    """Run a verb of the trainer on a store."""
    check_installed(what)
    with tempfile.TemporaryDirectory(prefix="finetune-store-") as folder:
        environment = os.environ | {ENV_ALLOW_FILE: "1", ENV_CLAIMS: claims}
        if place.secret:
            for key, value in (await read_secret(jobs, place.secret, what)).items():
                (Path(folder) / key).write_bytes(value)
            environment[ENV_SECRETS] = f"{place.secret}={folder}"
        command = [sys.executable, "-m", "finetune_trainer", *arguments]
        return await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, text=True, check=False
        )


async def read_secret(jobs: Jobs, name: str, what: str) -> dict[str, bytes]:
    """Return the keys of a Secret that a store knows. Raises FinetuneError where it cannot be read."""
    answer = await jobs.api.get(f"/api/v1/namespaces/{jobs.namespace}/secrets/{name}")
    if answer.status != 200:
        raise FinetuneError(f"the Secret {name}, which {what} needs, cannot be read: {answer.message}")
    data = answer.body.get("data") or {}
    return {key: base64.b64decode(value) for key, value in data.items() if key in SECRET_KEYS}
