"""`finetune plan`: what a job would need, take and cost, before it exists. What it cannot see it assumes, and says so."""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.status import PreflightStatus
from finetune_operator.cli.local_model import local_config
from finetune_operator.cli.manifest_file import JobManifest, must_exist, read_job, read_policy, read_pools
from finetune_operator.cli.options import Context, Kubeconfig
from finetune_operator.cli.output import Output, allowed, print_object
from finetune_operator.cli.plan_data import (
    EXAMPLES,
    MOST_EXAMPLES,
    MOST_TOKENS,
    TOKENS_PER_EXAMPLE,
    assumed_facts,
    data_facts,
    estimated,
)
from finetune_operator.cli.plan_facts import ClusterFacts, pinned_preflight
from finetune_operator.cli.plan_limits import Surroundings, limits_of, planned_for
from finetune_operator.cli.plan_model import catalogue_model, model_shape
from finetune_operator.cli.plan_pools import PRICE_SOURCE, built_in_pools
from finetune_operator.cli.plan_serving import Adapters, Concurrency, Length, asked_load, serving_lines
from finetune_operator.cli.plan_view import Page, dollars, show
from finetune_operator.cli.target import find_target
from finetune_operator.errors import DoesNotFit, FinetuneError
from finetune_operator.planning.planner import PlannedRun
from finetune_operator.planning.pool_gpu import refused
from finetune_operator.planning.refusal import WOULD_FIT
from finetune_operator.planning.speed.duration import hours

BUILT_IN = "built-in"
ASSUMED_POOLS = f"assumed: the built-in pools; prices: {PRICE_SOURCE}; pass --pools"
TOO_LONG = (
    "training.sequenceLength {:,} exceeds the {:,} positions of this model in the catalogue: preflight refuses the job if "
    "config.json has the same limit"
)


PLACEHOLDERS = {"datasets": [{"source": "s3://bucket/data"}], "output": {"destination": "s3://bucket/adapter"}}
"""Where data and result are has no part in the arithmetic, but a job must say it."""


def command(  # noqa: PLR0913, PLR0917 - the options of a command are arguments
    file: Annotated[
        Path | None,
        typer.Option(
            "-f",
            "--file",
            help="YAML file with the FineTuneJob; - for standard input.",
            callback=must_exist,
        ),
    ] = None,
    pools: Annotated[
        str,
        typer.Option(
            metavar="FILE|FOLDER|built-in",
            help="GPUPools to plan on. Default: those of the cluster, or built-in ones without a cluster.",
        ),
    ] = "",
    examples: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_EXAMPLES, help=f"Number of rows in the data. Default: counted, or {EXAMPLES}."),
    ] = None,
    quota: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with the ResourceQuotas and LimitRanges of the namespace; - for standard input. Default: the cluster's.",
            callback=must_exist,
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with the FineTunePolicy of the namespace; - for standard input. Default: the cluster's, if there is one.",
            callback=must_exist,
        ),
    ] = None,
    tokens_per_example: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_TOKENS, help=f"Average tokens per row. Default: counted, or {TOKENS_PER_EXAMPLE}."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Model name from the catalogue, or path of a config.json. Default: spec.model.")
    ] = "",
    method: Annotated[
        Literal["auto", "lora", "qlora", "full"] | None,
        typer.Option(help="Training method, for a plan without --file. Default: auto."),
    ] = None,
    output: Output = "",
    explain: Annotated[bool, typer.Option(help="Also print how the figures are calculated.")] = False,
    serving: Annotated[
        bool, typer.Option("--serving", help="Also print what it takes to serve the result on these GPUs.")
    ] = False,
    length: Length = None,
    concurrency: Concurrency = None,
    adapters: Adapters = None,
    kubeconfig: Kubeconfig = "",
    context: Context = "",
) -> None:
    """Show the memory, time and cost of a job before running it. The job comes from a file or is a default one for a model."""
    asked, shape_of = asked_load(length, concurrency, adapters, serving=serving), allowed(output, "json", "yaml")
    job = job_of(file, model, method)
    cluster = facts_of_cluster(pools, kubeconfig, context, job if file else None)
    offered, note = offer(pools, cluster)
    shape = model_shape(job.spec, model)
    pinned = pinned_in(job) or cluster.preflight
    data = data_facts(job, shape, examples, tokens_per_example, None if model else pinned)
    for remark in (*([cluster.remark] if cluster.remark else []), *remarks(offered, shape, data.preflight)):
        print(f"finetune: {remark}", file=sys.stderr)
    limits = limits_of(quota, job.spec) if quota else cluster.limits
    team = read_policy(policy) if policy else cluster.policy
    around = Surroundings(shape=shape, found=data.preflight, pools=offered, limits=limits, policy=team)
    planned = planned_run(job.spec, around)
    if shape_of:
        found = {"plan": planned.plan.model_dump(), "resolved": planned.resolved.model_dump()}
        print_object({**found, "assumed": [*data.assumed, *_assumed_pools(note)]}, shape_of)
        return
    page = Page(title=job.name, planned=planned, data=data, architecture=shape, pools_note=note, explain=explain)
    show(replace(page, serving=serving_lines(planned, shape, asked) if asked is not None else ()))


def planned_run(spec: FineTuneJobSpec, around: Surroundings) -> PlannedRun:
    """Return the plan. Raises DoesNotFit with a remedy on each line."""
    try:
        return planned_for(spec, around)
    except DoesNotFit as refusal:
        raise DoesNotFit(in_lines(refusal.message)) from refusal


def facts_of_cluster(pools: str, kubeconfig: str, context: str, job: JobManifest | None) -> ClusterFacts:
    """Return what the cluster knows, if one is meant; a plan on given pools of a job that is not in a file asks none."""
    target = None if pools == BUILT_IN else find_target(kubeconfig)
    if target is None or (pools and job is None):
        return ClusterFacts()
    from finetune_operator.cli.plan_cluster import read_cluster  # noqa: PLC0415  # a plan without a cluster loads no client

    found = read_cluster(target, context, job)
    if pools:
        return replace(found, pools=())
    if not found.pools and not found.remark:
        remark = f"{target.title} has no GPUPools, so the plan uses the built-in pools"
        return replace(found, remark=remark)
    return found


def offer(pools: str, cluster: ClusterFacts) -> tuple[tuple[GPUPool, ...], str]:
    """Return the pools to plan on, and what the page says about them."""
    if pools and pools != BUILT_IN:
        return pools_of(Path(pools)), f"pools of {pools}"
    if cluster.pools:
        return cluster.pools, f"pools of {cluster.title}"
    return built_in_pools(), ASSUMED_POOLS


def _assumed_pools(note: str) -> list[str]:
    return [note.removeprefix("assumed: ")] if note == ASSUMED_POOLS else []


def pinned_in(job: JobManifest) -> tuple[str, PreflightStatus] | None:
    """Return the preflight in the status of a job that was read from a cluster: `kubectl get ftj NAME -o yaml`."""
    status = job.raw.get("status")
    if not isinstance(status, dict) or "preflight" not in status:
        return None
    try:
        found = PreflightStatus.model_validate(status["preflight"])
    except ValidationError:  # of another version: the data is counted or assumed, and the page says so
        return None
    return pinned_preflight(job, str(status.get("specDigest")), found)


def outline(job: JobManifest, datasets: Sequence[dict[str, Any]]) -> str:
    """Return a plan on the built-in pools in one line, for init. Raises FinetuneError where there is none."""
    shape = model_shape(job.spec, "")
    facts = estimated(job.spec, shape, datasets) if datasets else assumed_facts(job.spec, shape, None, None)
    around = Surroundings(shape=shape, found=facts.preflight, pools=built_in_pools())
    found = planned_run(job.spec, around).plan
    return f"{found.summary}, about {hours(found.estimate.seconds)} and {dollars(found.estimate.cost_usd)} on the built-in pools"


def job_of(file: Path | None, model: str, method: str | None) -> JobManifest:
    """Return the job of a file, or one that says only which model, and perhaps how, it tunes. Raises typer.BadParameter."""
    if file is not None:
        if method is not None:
            raise typer.BadParameter(f"--method cannot be combined with --file: set spec.method in {file}")
        return read_job(file)
    if not model:
        raise typer.BadParameter(
            "nothing to plan: pass a job with --file, or a model with --model (`finetune models` lists them)"
        )
    spec = {"model": {"source": _source_of(model)}, "method": method or "auto", **PLACEHOLDERS}
    return JobManifest(name=model, namespace="default", spec=FineTuneJobSpec.model_validate(spec))


def _source_of(model: str) -> str:
    """Return where the model would come from: its place on the hub, or one that is made up for the folder of a config.json."""
    config = Path(model) if model.endswith(".json") else local_config(model)
    if config is None:
        return f"hf://{catalogue_model(model).name}"
    if config.parent.parent.name == "snapshots":  # the hub's cache
        return f"hf://{model.removeprefix('hf://')}"
    folder = re.sub(r"[^A-Za-z0-9-]+", "-", config.resolve().parent.name).strip("-")
    return f"hf://local/{folder or 'model'}"


def pools_of(path: Path) -> tuple[GPUPool, ...]:
    """Return the pools of a file, or of all YAML files of a folder as `kubectl apply -f` takes them."""
    files = sorted((*path.glob("*.yaml"), *path.glob("*.yml"))) if path.is_dir() else [path]
    if not files:
        raise FinetuneError(f"{path} contains no YAML files: --pools needs at least one with GPUPools")
    found = tuple(pool for file in files for pool in read_pools(file))
    names = [pool.metadata.name for pool in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise FinetuneError(f"{path} contains several GPUPools named {twice[0]}: names must be unique")
    return found


def remarks(pools: tuple[GPUPool, ...], shape: ModelArchitecture, found: PreflightStatus) -> Iterator[str]:
    """Say what is odd about the input and does not keep it from being planned."""
    for pool in pools:
        if reason := refused(pool.spec):
            yield f"pool {pool.metadata.name} is ignored: {reason}"
    if found.sequence_length > shape.max_position_embeddings:
        # not an error: variants that share a shape may have more positions than the catalogue's entry
        yield TOO_LONG.format(found.sequence_length, shape.max_position_embeddings)


def in_lines(refusal: str) -> str:
    """Return a refusal with one remedy a line: a condition has room for one sentence only, a terminal for more."""
    need, _, remedies = refusal.partition(WOULD_FIT)
    return "\n  ".join((f"{need}\nthis would fit:", *remedies.split("; "))) if remedies else need
