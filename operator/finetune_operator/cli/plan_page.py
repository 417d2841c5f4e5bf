"""From the options of plan to its page: the job, what the cluster or the files around it say, the planner. Called by plan and init."""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from finetune_operator.api.group import POLICY_KIND
from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.cli.local_model import local_config
from finetune_operator.cli.manifest_file import JobManifest, read_job, read_policy, read_pools
from finetune_operator.cli.plan_data import assumed_facts, data_facts, estimated
from finetune_operator.cli.plan_facts import ClusterFacts, pinned_preflight
from finetune_operator.cli.plan_limits import Surroundings, limits_of, planned_for
from finetune_operator.cli.plan_model import catalogue_model, model_shape
from finetune_operator.cli.plan_options import GPU_PUBLISH_SECONDS
from finetune_operator.cli.plan_pools import PRICE_SOURCE, built_in_pools
from finetune_operator.cli.plan_view import Page, dollars
from finetune_operator.cli.submit import one_namespace
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options that say what is planned, and on what."""

    file: Path | None = None
    model: str = ""
    method: str | None = None
    pools: str = ""
    examples: int | None = None
    tokens_per_example: int | None = None
    quota: Path | None = None
    policy: Path | None = None
    gpu_publish_seconds: int = GPU_PUBLISH_SECONDS
    namespace: str = ""
    kubeconfig: str = ""
    context: str = ""


def page_of(asked: Asked) -> Page:
    """Plan, and say on stderr what is odd about the input. Raises DoesNotFit with a remedy on each line."""
    job = job_of(asked.file, asked.model, asked.method)
    cluster = facts_of_cluster(asked, job if asked.file else None)
    offered, note = offer(asked.pools, cluster)
    shape = model_shape(job.spec, asked.model)
    pinned = None if asked.model else pinned_in(job) or cluster.preflight
    data = data_facts(job, shape, asked.examples, asked.tokens_per_example, pinned)
    said = [cluster.remark, unread(cluster, asked)]
    for remark in (*filter(None, said), *remarks(offered, shape, data.preflight)):
        print(f"finetune: {remark}", file=sys.stderr)
    limits = limits_of(asked.quota, job.spec) if asked.quota else cluster.limits
    team = read_policy(asked.policy) if asked.policy else cluster.policy
    around = Surroundings(
        shape=shape, found=data.preflight, pools=offered, limits=limits, policy=team,
        gpu_publish_seconds=asked.gpu_publish_seconds,
    )  # fmt: skip
    planned = planned_run(job.spec, around)
    return Page(title=job.name, planned=planned, data=data, architecture=shape, pools_note=note)


def in_words(page: Page) -> dict[str, Any]:
    """Return a plan for programs."""
    planned = {"plan": page.planned.plan.model_dump(), "resolved": page.planned.resolved.model_dump()}
    return {**planned, "assumed": [*page.data.assumed, *_assumed_pools(page.pools_note)]}


def planned_run(spec: FineTuneJobSpec, around: Surroundings) -> PlannedRun:
    """Return the plan. Raises DoesNotFit with a remedy on each line."""
    try:
        return planned_for(spec, around)
    except DoesNotFit as refusal:
        raise DoesNotFit(in_lines(refusal.message)) from refusal


def facts_of_cluster(asked: Asked, job: JobManifest | None) -> ClusterFacts:
    """Return what the cluster knows, if one is meant; a plan on given pools of a job that is not in a file asks none."""
    if asked.namespace and job is None:
        raise typer.BadParameter("-n names the namespace of the job in --file: add --file, or leave out -n")
    namespace = one_namespace(job.raw, asked.namespace) if job is not None else ""
    target = None if asked.pools == BUILT_IN else find_target(asked.kubeconfig)
    if target is None or (asked.pools and job is None):
        return ClusterFacts()
    from finetune_operator.cli.plan_cluster import read_cluster  # noqa: PLC0415  # a plan without a cluster loads no client

    found = read_cluster(target, asked.context, namespace, job, has_pools=bool(asked.pools))
    if not asked.pools and not found.pools and not found.remark:
        remark = f"{target.title} has no GPUPools, so the plan uses the built-in pools"
        return replace(found, remark=remark)
    return found


def unread(cluster: ClusterFacts, asked: Asked) -> str:
    """Say which limits of the namespace the plan does not know; empty if it knows all."""
    kinds = [kind for kind in cluster.unread if not (asked.policy if kind == POLICY_KIND else asked.quota)]
    if not kinds:
        return ""
    option = " and ".join(dict.fromkeys("--policy" if kind == POLICY_KIND else "--quota" for kind in kinds))
    return (
        f"you may not read {', '.join(kinds)} of namespace {cluster.namespace}, so the plan may exceed what they allow: pass {option} "
        "with a file, or ask for the right to read them"
    )


def offer(pools: str, cluster: ClusterFacts) -> tuple[tuple[GPUPool, ...], str]:
    """Return the pools to plan on, and what the page says about them."""
    if pools and pools != BUILT_IN:
        return pools_of(Path(pools).expanduser()), f"pools of {pools}"
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
