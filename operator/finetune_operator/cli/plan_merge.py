"""What a job with mergeOf takes, as `finetune plan` shows it: a Pod without GPUs, its memory, disk and time. Called by plan."""

from pathlib import Path
from typing import Any

import typer

from finetune_operator.cli.manifest_file import JobManifest, read_job
from finetune_operator.cli.output import print_object
from finetune_operator.cli.plan_data import DataFacts, data_facts
from finetune_operator.cli.plan_model import model_shape
from finetune_operator.cli.plan_page import pinned_in
from finetune_operator.cli.tables import coloured
from finetune_operator.planning.layouts import counted
from finetune_operator.planning.merging import merge_plan, summary
from finetune_operator.planning.models.adapter import Adapter, adapter_parameters

ASSUMED_RANK = 16
LABEL_WIDTH = 12


def merge_job(file: Path) -> JobManifest | None:
    """Return the job of a file if it merges adapters, else None."""
    job = read_job(file)
    return job if job.spec.merge_of is not None else None


def show_merge(job: JobManifest, examples: int | None, tokens: int | None, shape_of_output: str) -> None:
    """Print the plan of a merge."""
    merge = job.spec.merge_of
    assert merge is not None
    shape = model_shape(job.spec, "")
    data = data_facts(job, shape, examples, tokens, pinned_in(job))
    found, assumed = data.preflight, list(data.assumed)
    if not found.adapter_bytes:
        each = 4 * adapter_parameters(shape, Adapter(lora_rank=ASSUMED_RANK))
        found = found.model_copy(update={"adapter_bytes": len(merge.adapters) * each, "architecture": shape})
        assumed.append(f"each adapter has LoRA rank {ASSUMED_RANK} on all linear layers; preflight reads their sizes")
    plan = merge_plan(job.spec, found)
    if shape_of_output:
        print_object({"plan": plan.model_dump(), "assumed": assumed}, shape_of_output)
        return
    title = typer.style(f"{job.name}: ", bold=True) + typer.style(summary(job.spec, plan), fg="green", bold=True)
    typer.echo(title, color=coloured())
    for label, value in lines(job, DataFacts(preflight=found, known=data.known, assumed=tuple(assumed))):
        typer.echo(f"{label:{LABEL_WIDTH}}{value}")


def lines(job: JobManifest, data: DataFacts) -> list[tuple[str, Any]]:
    """Return what is merged and measured, by label."""
    merge, found = job.spec.merge_of, data.preflight
    assert merge is not None
    measured = f"{counted(found.evaluation_examples, 'held-out row')}, base and merged adapter one after the other"
    return [
        *(
            ("adapters" if not number else "", f"{one.weight} x {one.source}")
            for number, one in enumerate(merge.adapters)
        ),
        ("measured", measured),
        *(("", each) for each in data.known),
        *(("", f"assumed: {each}") for each in data.assumed),
        ("cost", "$0.00: no GPU is used; CPU nodes have no price"),
    ]
