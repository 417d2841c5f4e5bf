"""`finetune plan`: what a job would need, take and cost, before it exists. Offline: the data is described, not read."""

import difflib
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from finetune_contract.engines import servable_by, summary

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.status import PreflightStatus
from finetune_operator.cli.local_model import local_config
from finetune_operator.cli.manifest_file import JobManifest, must_exist, read_job, read_pools, text_of
from finetune_operator.cli.plan_pools import PRICE_SOURCE, built_in_pools
from finetune_operator.cli.plan_view import Page, show
from finetune_operator.errors import DoesNotFit, FinetuneError
from finetune_operator.planning.advice import traits_of as traits_of_spec
from finetune_operator.planning.models.architecture import architecture
from finetune_operator.planning.models.catalogue import CatalogueModel, catalogue_entry, models
from finetune_operator.planning.planner import PlannedRun, plan
from finetune_operator.planning.pool_gpu import refused
from finetune_operator.planning.refusal import WOULD_FIT
from finetune_operator.planning.serving import Load, described

EXAMPLES, TOKENS_PER_EXAMPLE = 5000, 1000
MOST_EXAMPLES, MOST_TOKENS = 1_000_000_000, 1_000_000
"""Their product is a count that status can hold."""

LONG_ROW = 2.6
"""99 % of the rows of chat data are no longer than so many times the mean (lengths that spread log-normally)."""

PACKING_WASTE = 1.03
"""Best-fit packing leaves about 3 % of the rows empty."""

CONTINUED_LENGTH = 4096
MOST_NEAR = 5
"""Names of models in one message."""

TOO_LONG = (
    "training.sequenceLength {:,} exceeds the {:,} positions of this model in the catalogue: preflight refuses the job if "
    "config.json has the same limit"
)


PLACEHOLDERS = {"datasets": [{"source": "s3://bucket/data"}], "output": {"destination": "s3://bucket/adapter"}}
"""Where data and result are has no part in the arithmetic, but a job must say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What preflight would have found out."""

    examples: int
    tokens_per_example: int


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
        Path | None, typer.Option(help="YAML file with GPUPools, or a folder of such files. Default: built-in pools.")
    ] = None,
    examples: Annotated[int, typer.Option(min=1, max=MOST_EXAMPLES, help="Number of rows in the data.")] = EXAMPLES,
    tokens_per_example: Annotated[
        int, typer.Option(min=1, max=MOST_TOKENS, help="Average tokens per row.")
    ] = TOKENS_PER_EXAMPLE,
    model: Annotated[
        str, typer.Option(help="Model name from the catalogue, or path of a config.json. Default: spec.model.")
    ] = "",
    method: Annotated[
        Literal["auto", "lora", "qlora", "full"] | None,
        typer.Option(help="Training method, for a plan without --file. Default: auto."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print status.plan and status.resolved as JSON.")] = False,
    explain: Annotated[bool, typer.Option(help="Also print how the figures are calculated.")] = False,
    serving: Annotated[
        bool, typer.Option("--serving", help="Also print what it takes to serve the result on these GPUs.")
    ] = False,
    length: Annotated[
        int | None, typer.Option(min=16, help="With --serving: maximum tokens of a request. Default: 4096.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="With --serving: requests at the same time. Default: 8.")
    ] = None,
    adapters: Annotated[
        int | None, typer.Option(min=1, help="With --serving: adapters on one server. Default: 1.")
    ] = None,
) -> None:
    """Show the memory, time and cost of a job before running it. The job comes from a file or is a default one for a model."""
    job = job_of(file, model, method)
    offered = pools_of(pools) if pools else built_in_pools()
    shape = model_shape(job.spec, model)
    data = Assumptions(examples=_examples(job.spec, examples), tokens_per_example=tokens_per_example)
    found = supposed_preflight(job.spec, shape, data)
    for remark in remarks(offered, shape, found):
        print(f"finetune: {remark}", file=sys.stderr)
    try:
        planned = plan(job.spec, architecture=shape, preflight=found, pools=offered, image="")
    except DoesNotFit as refusal:
        raise DoesNotFit(in_lines(refusal.message)) from refusal
    if as_json:
        print(json.dumps({"plan": planned.plan.model_dump(), "resolved": planned.resolved.model_dump()}, indent=2))
        return
    if not serving and (length or concurrency or adapters):
        raise typer.BadParameter("--length, --concurrency and --adapters describe a server: add --serving")
    asked = Load(length=length or 4096, concurrency=concurrency or 8, adapters=adapters or 1)
    note = f"pools of {pools}" if pools else f"built-in pools; prices: {PRICE_SOURCE}"
    show(
        Page(
            title=job.name,
            planned=planned,
            preflight=found,
            architecture=shape,
            pools_note=note,
            explain=explain,
            serving=serving_lines(planned, shape, asked) if serving else (),
        )
    )


def serving_lines(planned: PlannedRun, shape: ModelArchitecture, asked: Load) -> Sequence[str]:
    """Return what the result takes on GPUs of the plan's pool: as it is, and merged where that is a choice."""
    chosen = planned.chosen
    on_card = partial(described, shape, gpu_type=chosen.pool.spec.gpu_type, memory_gib=chosen.usable_gib)
    lora = planned.resolved.lora
    if lora is None:
        return on_card(replace(asked, adapters=0))
    answers = servable_by(traits_of_spec(lora), lora.rank)
    told = on_card(replace(asked, lora_rank=lora.rank))
    merged = on_card(replace(asked, adapters=0))
    return (
        f"the adapter as it is: {summary(answers)}",
        *(told if answers[0].serves else ()),
        "merged (output.exports): every engine",
        *merged,
    )


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
        return f"hf://{_catalogue_model(model).name}"
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


def _examples(spec: FineTuneJobSpec, examples: int) -> int:
    """A sample takes at most maxExamples of each dataset."""
    limits = [dataset.max_examples for dataset in spec.datasets if dataset.max_examples]
    return min(examples, sum(limits)) if len(limits) == len(spec.datasets) else examples


def model_shape(spec: FineTuneJobSpec, asked: str) -> ModelArchitecture:
    """Return the shape of a config.json, a model on this machine or in the catalogue. Raises FinetuneError for an unknown name."""
    if asked.endswith(".json"):
        return _model_of_config(Path(asked))
    if (config := local_config(asked or spec.model.source)) is not None:
        return _model_of_config(config)
    return _catalogue_model(asked or spec.model.source).architecture


def _catalogue_model(asked: str) -> CatalogueModel:
    """Return the model of a hub name, with or without ORG and hf://, or of a folder named like it. Raises FinetuneError."""
    name = asked.partition("://")[2] or asked
    found = catalogue_entry(name) or _model_in_folder(name)
    if found is None:
        near = ", ".join(_near(name))
        meant = f" Did you mean {near}?" if near else ""
        raise FinetuneError(
            f"model {name} is not in the catalogue.{meant} Pass a name from `finetune models` or the path of a config.json as --model"
        )
    return found


def _model_of_config(path: Path) -> ModelArchitecture:
    try:
        config = json.loads(text_of(path))
    except ValueError as error:
        raise FinetuneError(f"{path} is not JSON ({error}): --model needs the config.json of a model") from error
    if not isinstance(config, dict):
        raise FinetuneError(f"{path} is not a JSON object: --model needs the config.json of a model")
    return architecture(config)


def _model_in_folder(path: str) -> CatalogueModel | None:
    """A folder is mostly named as the model is on the hub: pvc://models/llama-3.1-8b."""
    return next((one for one in models() if _last(path) in map(_last, (one.name, *one.aliases))), None)


def _near(name: str) -> list[str]:
    """Return models that were perhaps meant: those with the name in theirs (`gemma-3`), else those spelt much like it."""
    asked = _last(name)
    if longer := [one.name for one in models() if asked in _last(one.name)]:
        return longer[:MOST_NEAR]
    alike = {_last(one) for one in _names() if _family(one) == _family(name) and _size(one) == _size(name)}
    close = difflib.get_close_matches(asked, alike, n=3)
    return [one for one in _names() if _last(one) in close]


def _family(name: str) -> str:
    """Return the letters that a name begins with: llama of Llama-3.1-8B."""
    found = re.match(r"(meta-)?([a-z]+)", _last(name))
    return found[2] if found else ""


def _size(name: str) -> str:
    """Return the size in a name: 8b of Llama-3.1-8B; empty where it has none."""
    found = re.search(r"(?<![a-z0-9.])([0-9.x]+[bm])(?![a-z])", _last(name))
    return found[1] if found else ""


def _names() -> Iterator[str]:
    return (name for one in models() for name in (one.name, *one.aliases))


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


def supposed_preflight(spec: FineTuneJobSpec, shape: ModelArchitecture, data: Assumptions) -> PreflightStatus:
    """Return what preflight would report for so many rows of such a length."""
    longest = math.ceil(LONG_ROW * data.tokens_per_example)
    default = CONTINUED_LENGTH if spec.objective == "cpt" else math.ceil(longest / 64) * 64
    length = spec.training.sequence_length or min(default, shape.max_position_embeddings)
    share = math.floor(data.examples * float(spec.evaluation.fraction))
    held_out = spec.evaluation.max_examples if spec.evaluation.source else min(spec.evaluation.max_examples, share)
    rows = data.examples if spec.evaluation.source else max(1, data.examples - held_out)
    tokens = rows * min(data.tokens_per_example, length)
    return PreflightStatus(
        model_revision=spec.model.revision or "", model_bytes=2 * shape.num_parameters, dataset_digest="",
        examples=rows, evaluation_examples=held_out, tokens=tokens, trained_tokens=tokens,
        tokens_p50=data.tokens_per_example, tokens_p99=min(longest, length), tokens_max=longest,
        truncated_rows=0, truncated_percent="0", dropped_rows=0, masked_rows=0, duplicates=0, sampled=True,
        sequence_length=length, packed_rows=math.ceil(tokens * PACKING_WASTE / length), architecture=shape,
    )  # fmt: skip
