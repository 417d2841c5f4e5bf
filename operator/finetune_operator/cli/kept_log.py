"""Logs that Pods have left beside the checkpoints. Called by logs, for a Pod that is gone."""

from dataclasses import dataclass

from finetune_contract import export_log_folder, log_folder

from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.jobs import Jobs
from finetune_operator.cli.store_here import Place, checkpoint_place, claims_here, missing_claim, run_at_store
from finetune_operator.errors import FinetuneError

NOTHING = 3
"""What the trainer's `stored` ends with where nothing was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where a log is."""

    place: Place
    folder: str
    name: str

    def __str__(self) -> str:
        return f"{self.place.uri.rstrip('/')}/{self.folder}/{self.name}-*.log"


def kept_log(job: ReportedJob, *, attempt: int | None, replica: int) -> Kept:
    """Return where the log of an attempt's replica is kept, of the newest preflight for attempt None."""
    name = f"generation-{job.status.preflight_generation}" if attempt is None else f"replica-{replica}"
    return Kept(place=checkpoint_place(job), folder=log_folder(job.metadata.uid, attempt), name=name)


def kept_export_log(job: ReportedJob) -> Kept:
    """Return where the log of the newest export Pod is kept."""
    number = job.status.export.number if job.status.export is not None else 0
    return Kept(place=checkpoint_place(job), folder=export_log_folder(job.metadata.uid), name=f"export-{number}")


async def read_kept(kept: Kept, jobs: Jobs, *, claims: str) -> str | None:
    """Return the text, None where nothing was kept. Raises FinetuneError that says what is missing."""
    claims = claims_here(jobs, claims)
    if claim := missing_claim(kept.place, claims):
        raise FinetuneError(
            f"its Pod is gone, and its log is kept at {kept}: mount the PersistentVolumeClaim {claim} and pass "
            f"--claim {claim}=FOLDER"
        )
    arguments = ["stored", kept.place.uri, kept.folder, kept.name, kept.place.secret]
    done = await run_at_store(jobs, kept.place, arguments, claims=claims, what="reading the log of a Pod that is gone")
    if done.returncode == NOTHING:
        return None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise FinetuneError(
            f"its Pod is gone, and its log at {kept} cannot be read: {said[-1] if said else 'no reason'}"
        )
    return done.stdout
