"""A published result of a job brought to this machine: what serve and chat start from."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from finetune_contract import ENV_ALLOW_FILE, ENV_CLAIMS, ENV_SECRETS

from finetune_operator.api.published import ArtifactStatus
from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.jobs import Jobs, with_jobs
from finetune_operator.cli.store_here import claims_here, read_secret
from finetune_operator.cli.trainer_here import check_installed
from finetune_operator.errors import FinetuneError
from finetune_operator.manifests.run_config import model, output_location


def cache() -> Path:
    """Return where results are kept between two commands, by digest."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "finetune-operator/results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """A job, and the environment in which the trainer's commands reach its places from this machine."""

    job: ReportedJob
    environment: dict[str, str]

    def brought(self, artifact: ArtifactStatus) -> Path:
        """Return the folder of an artifact on this machine. Raises FinetuneError that says why it cannot be fetched."""
        folder = cache() / artifact.digest.removeprefix("sha256:")[:16]
        secret = output_location(self.job.spec.output).secret
        print(f"fetching {artifact.uri}", file=sys.stderr)
        command = [
            sys.executable,
            "-m",
            "finetune_trainer",
            "fetch",
            artifact.uri,
            str(folder),
            artifact.digest,
            secret,
        ]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise FinetuneError(f"{artifact.uri} cannot be fetched: {said[-1] if said else 'no reason'}")
        return folder


@contextmanager
def here(name: str, options: tuple[str, str, str], claims: str, what: str) -> Iterator[Here]:
    """Read a job and the Secrets of its places. Raises FinetuneError where it has published nothing."""
    check_installed(what)
    with TemporaryDirectory(prefix="finetune-secrets-") as folder:

        async def read(jobs: Jobs) -> tuple[ReportedJob, str, str]:
            job = await jobs.get(name)
            places = (output_location(job.spec.output), model(job.spec.model).location)
            secrets = {place.secret for place in places} - {""}
            for secret in secrets:
                (Path(folder) / secret).mkdir(mode=0o700)
                for key, value in (await read_secret(jobs, secret, what)).items():
                    (Path(folder) / secret / key).write_bytes(value)
            return job, ":".join(f"{secret}={folder}/{secret}" for secret in sorted(secrets)), claims_here(jobs, claims)

        job, secrets, mounted = with_jobs(options, read)
        if not job.status.artifacts:
            raise FinetuneError(f"{name} has published nothing yet (phase {job.status.phase})")
        environment = os.environ | {ENV_ALLOW_FILE: "1", ENV_CLAIMS: mounted, ENV_SECRETS: secrets}
        yield Here(job=job, environment=environment)


def published_as(job: ReportedJob, *kinds: str) -> ArtifactStatus | None:
    """Return the first of some kinds that a job has published."""
    have = {str(artifact.kind): artifact for artifact in job.status.artifacts}
    return next((have[kind] for kind in kinds if kind in have), None)
