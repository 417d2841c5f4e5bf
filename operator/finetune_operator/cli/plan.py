"""`finetune plan`: what a job would need, take and cost, before it exists. Offline: the data is described, not read."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.status import PreflightStatus
from finetune_operator.cli.manifest_file import parse_job, parse_pools, text_of
from finetune_operator.cli.plan_pools import PRICE_SOURCE, built_in_pools
from finetune_operator.cli.plan_view import Page, show
from finetune_operator.errors import DoesNotFit, FinetuneError
from finetune_operator.planning.architecture import architecture
from finetune_operator.planning.catalogue import model_named, models
from finetune_operator.planning.planner import plan
from finetune_operator.planning.planner_refusal import WOULD_FIT

EXAMPLES, TOKENS_PER_EXAMPLE = 5000, 1000
LONG_ROW = 2.6
"""99 % of the rows of chat data are no longer than so many times the mean (lengths that spread log-normally)."""

PACKING_WASTE = 1.03
"""Best-fit packing leaves about 3 % of the rows empty."""

CONTINUED_LENGTH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What preflight would have found out."""

    examples: int
    tokens_per_example: int


def command(
    file: Annotated[
        Path, typer.Option("-f", "--file", help="YAML file with the FineTuneJob.", exists=True, dir_okay=False)
    ],
    pools: Annotated[Path | None, typer.Option(help="YAML file with GPUPools; default: a built-in list.")] = None,
    examples: Annotated[int, typer.Option(min=1, help="Rows of the data set.")] = EXAMPLES,
    tokens_per_example: Annotated[int, typer.Option(min=1, help="Mean tokens of a row.")] = TOKENS_PER_EXAMPLE,
    model: Annotated[str, typer.Option(help="Catalogue name, or path of a config.json; default: spec.model.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print status.plan and status.resolved as JSON.")] = False,
    explain: Annotated[bool, typer.Option(help="Also print how the numbers come about.")] = False,
) -> None:
    """Show what a job would need, take and cost, before it exists."""
    job = parse_job(text_of(file))
    offered = parse_pools(text_of(pools)) if pools else built_in_pools()
    shape = model_shape(job.spec, model)
    data = Assumptions(examples=_examples(job.spec, examples), tokens_per_example=tokens_per_example)
    found = supposed_preflight(job.spec, shape, data)
    try:
        planned = plan(job.spec, architecture=shape, preflight=found, pools=offered, image="")
    except DoesNotFit as refusal:
        raise DoesNotFit(in_lines(refusal.message)) from refusal
    if as_json:
        print(json.dumps({"plan": planned.plan.model_dump(), "resolved": planned.resolved.model_dump()}, indent=2))
        return
    note = f"pools of {pools}" if pools else f"built-in pools; prices: {PRICE_SOURCE}"
    show(
        Page(
            title=job.name,
            planned=planned,
            preflight=found,
            architecture=shape,
            pools_note=note,
            explain=explain,
        )
    )


def in_lines(refusal: str) -> str:
    """Return a refusal with one remedy a line: a condition has room for one sentence only, a terminal for more."""
    need, _, remedies = refusal.partition(WOULD_FIT)
    return "\n  ".join((f"{need}\nwould fit:", *remedies.split("; "))) if remedies else need


def _examples(spec: FineTuneJobSpec, examples: int) -> int:
    """A sample takes at most maxExamples of each data set."""
    limits = [dataset.max_examples for dataset in spec.datasets if dataset.max_examples]
    return min(examples, sum(limits)) if len(limits) == len(spec.datasets) else examples


def model_shape(spec: FineTuneJobSpec, asked: str) -> ModelArchitecture:
    """Return the shape of a catalogue model, or of a config.json. Raises FinetuneError for an unknown name."""
    if asked.endswith(".json"):
        return _model_of_config(Path(asked))
    name = asked or spec.model.source.partition("://")[2]
    found = model_named(name) or _model_in_folder(name)
    if found is None:
        raise FinetuneError(
            f"the catalogue has no model {name}: name one of `finetune models` with --model, or give its config.json"
        )
    return found


def _model_of_config(path: Path) -> ModelArchitecture:
    try:
        config = json.loads(text_of(path))
    except ValueError as error:
        raise FinetuneError(f"{path} is not JSON: {error}; --model wants a model's config.json") from error
    if not isinstance(config, dict):
        raise FinetuneError(f"{path} holds no JSON object; --model wants a model's config.json")
    return architecture(config)


def _model_in_folder(path: str) -> ModelArchitecture | None:
    """A folder is mostly named as the model is on the hub: pvc://models/llama-3.1-8b."""
    last = path.rpartition("/")[2].lower()
    names = ((one, name) for one in models() for name in (one.name, *one.aliases))
    return next((one.architecture for one, name in names if name.rpartition("/")[2].lower() == last), None)


def supposed_preflight(spec: FineTuneJobSpec, shape: ModelArchitecture, data: Assumptions) -> PreflightStatus:
    """Return what preflight would report for so many rows of such a length."""
    longest = min(math.ceil(LONG_ROW * data.tokens_per_example), shape.max_position_embeddings)
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
