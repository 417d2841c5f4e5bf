"""The curves of a job: measured at each step, kept beside the checkpoints or in the Pod's log. Called by compare, report."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from finetune_contract import log_folder

from finetune_operator.api.status import ReportedJob
from finetune_operator.cli.jobs import Jobs
from finetune_operator.cli.kept_log import Kept, read_kept
from finetune_operator.cli.store_here import checkpoint_place
from finetune_operator.cli.watching import from_log
from finetune_operator.errors import FinetuneError

NAME = "metrics"
"""Of the files that the trainer keeps beside its logs."""

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Step and value, in order."""

    loss: Points = ()
    held_out: Points = ()
    learning_rate: Points = ()
    missing: str = ""
    """Why the history could not be read; empty where it was."""


async def curves_of(jobs: Jobs, job: ReportedJob, claims: str) -> Curves:
    """Return the curves over all attempts; those of the Pod that still runs where nothing else can be read."""
    place, lines = checkpoint_place(job), list[str]()
    try:
        for attempt in job.status.attempts or ():
            kept = Kept(place=place, folder=log_folder(job.metadata.uid, attempt.number), name=NAME)
            lines += (await read_kept(kept, jobs, claims=claims) or "").splitlines()
    except FinetuneError as error:
        return await curves_in_logs(jobs, job, str(error))
    return from_lines(lines)


async def curves_in_logs(jobs: Jobs, job: ReportedJob, missing: str) -> Curves:
    """Return what the logs of the Pods that are still there have; `missing` says why that is all."""
    losses: dict[int, float] = {}
    for attempt in job.status.attempts or ():
        losses |= await from_log(jobs, job, attempt.number)
    return Curves(loss=tuple(sorted((float(step), loss) for step, loss in losses.items())), missing=missing)


def from_lines(lines: Iterable[str]) -> Curves:
    """Return the curves of a history; a step that was repeated counts as it was the last time. Lines that are broken are left out."""
    entries = [entry for line in lines if (entry := _parsed(line)) is not None]
    return Curves(
        loss=_points(entries, "loss"),
        held_out=_points(entries, "eval_loss"),
        learning_rate=_points(entries, "learning_rate"),
    )


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("step"), int | float) else None


def _points(entries: Iterable[dict[str, Any]], name: str) -> Points:
    found = {float(entry["step"]): float(entry[name]) for entry in entries if isinstance(entry.get(name), int | float)}
    return tuple(sorted(found.items()))
