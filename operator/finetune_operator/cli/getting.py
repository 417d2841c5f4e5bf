"""What get reads, in the form that was asked for. Called by get."""

import sys
from datetime import datetime

from finetune_operator.cli.get_text import details, listing, wrapped
from finetune_operator.cli.jobs import Jobs, Raw
from finetune_operator.cli.output import in_shape
from finetune_operator.cli.plans import PlanUnread, with_plan
from finetune_operator.cli.stored import readable, stored_job
from finetune_operator.cli.unwatched import start_words, unwatched_since

NAME_PREFIX = "finetunejob.finetune.dev/"
"""As kubectl writes names."""


async def show_one(jobs: Jobs, name: str, now: datetime, shape: str, *, width: int) -> str:
    """Return one job in words, wrapped at a width unless that is 0, or as an object."""
    raw = await jobs.raw(name)
    if shape in ("json", "yaml"):
        return in_shape(await _with_plan(jobs, raw), shape)
    if shape == "name":
        return f"{NAME_PREFIX}{name}\n"
    job = stored_job(raw)
    alone = unwatched_since(job, now)
    note = (
        f"\n\nno operator has looked at it for {alone:.0f} s: {start_words(jobs.target)}" if alone is not None else ""
    )
    return f"{wrapped(details(job, now), width)}{note}\n"


async def _with_plan(jobs: Jobs, raw: Raw) -> Raw:
    try:
        return await with_plan(jobs, raw)
    except PlanUnread as error:
        print(f"finetune: shown without its plan: {error}", file=sys.stderr)
        return raw


async def show_all(jobs: Jobs, now: datetime, shape: str, *, width: int, everywhere: bool) -> str:
    """Return all jobs as a table, or as objects."""
    raw = sorted(
        await jobs.list_raw(everywhere=everywhere),
        key=lambda one: (one["metadata"]["namespace"], one["metadata"]["name"]),
    )
    if shape in ("json", "yaml"):
        return in_shape({"apiVersion": "v1", "kind": "List", "items": raw}, shape)
    if shape == "name":
        return "".join(f"{NAME_PREFIX}{each['metadata']['name']}\n" for each in raw)
    found = readable(raw)
    if not raw:
        return "no FineTuneJobs found" + ("" if everywhere else f" in namespace {jobs.namespace}") + "\n"
    lines = listing(found, now, width=width, namespaces=everywhere)
    alone = [job for job in found if unwatched_since(job, now) is not None]
    if alone:
        lines.append(
            f"no operator has looked at {', '.join(job.metadata.name for job in alone)}: {start_words(jobs.target)}"
        )
    return "\n".join(lines) + "\n"
