"""What the page and other programs may ask, as JSON. Nothing in a question names a file or an address of this machine. Pure."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from finetune_operator.api.group import API_VERSION, JOB_KIND, POOL_KIND
from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.cli.manifest_file import parse_job, parse_pools
from finetune_operator.cli.plan_model import catalogue_model
from finetune_operator.cli.plan_options import MOST_EXAMPLES, MOST_TOKENS
from finetune_operator.cli.plan_page import PLACEHOLDERS
from finetune_operator.cli.plan_pools import built_in_pools
from finetune_operator.errors import FinetuneError
from finetune_operator.planning.models.architecture import architecture

MOST_POOLS = 16
Method = Literal["auto", "lora", "qlora", "full"]


class BadQuestion(FinetuneError):
    """A question that cannot be understood."""


class PlanQuestion(BaseModel):
    """A model, a method, data and GPUs. What is left out is chosen or assumed, and the answer says what was assumed."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True, frozen=True)

    model: Annotated[str, Field(max_length=256)] = ""
    """A name from the catalogue."""
    config: dict[str, Any] | None = None
    """The config.json of a model that the catalogue does not know, instead of model."""
    method: Method = "auto"
    gpu: Annotated[str, Field(max_length=64)] = ""
    """Only pools of this GPU type."""
    gpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    examples: Annotated[int, Field(ge=1, le=MOST_EXAMPLES)] | None = None
    tokens_per_example: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    spec: dict[str, Any] = Field(default_factory=dict)
    """Parts of a FineTuneJob's spec that replace the defaults, such as {"training": {"sequenceLength": 4096}}."""
    pools: Annotated[list[dict[str, Any]], Field(max_length=MOST_POOLS)] | None = None
    """GPUPools, each with a name beside the fields of its spec. Default: the built-in ones."""


def plan_question(raw: Mapping[str, Any]) -> PlanQuestion:
    """Read a question. Raises BadQuestion that names each field."""
    try:
        question = PlanQuestion.model_validate(dict(raw))
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise BadQuestion(said) from error
    if bool(question.model) == bool(question.config):
        raise BadQuestion(
            "the model is missing: set model to a name from /api/models, or config to the config.json of a model"
        )
    return question


def from_query(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the question that the parameters of an address ask: those of PlanQuestion that are a word or a number."""
    numbers = ("gpus", "examples", "tokensPerExample")
    return {
        name: int(value) if name in numbers and value.isdecimal() else value for name, value in query.items() if value
    }


def shape_of(question: PlanQuestion) -> ModelArchitecture:
    """Return the model's shape. Raises FinetuneError for an unknown name or family."""
    if question.config is not None:
        return architecture(question.config)
    return catalogue_model(question.model).architecture


def spec_of(question: PlanQuestion) -> FineTuneJobSpec:
    """Return the job's spec. Raises ManifestInvalid with all violations, in the words of `finetune plan`."""
    source = "hf://local/model" if question.config is not None else f"hf://{catalogue_model(question.model).name}"
    base: dict[str, Any] = {**PLACEHOLDERS, "model": {"source": source}, "method": question.method}
    if question.gpus is not None:
        base["resources"] = {"gpus": question.gpus}
    manifest = {
        "apiVersion": API_VERSION,
        "kind": JOB_KIND,
        "metadata": {"name": "question"},
        "spec": merged(base, question.spec),
    }
    return parse_job(json.dumps(manifest)).spec


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, the second winning, objects field by field."""
    out = dict(base)
    for name, value in more.items():
        old = out.get(name)
        out[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def pools_of(question: PlanQuestion) -> tuple[GPUPool, ...]:
    """Return the pools to plan on. Raises FinetuneError where none has the GPU."""
    offered = given_pools(question.pools) if question.pools else built_in_pools()
    found = tuple(pool for pool in offered if question.gpu in ("", pool.spec.gpu_type))
    if not found:
        types = ", ".join(sorted({pool.spec.gpu_type for pool in offered}))
        raise BadQuestion(f"no pool has the GPU type {question.gpu}: choose one of {types}, or ask with pools")
    return found


def given_pools(pools: list[dict[str, Any]]) -> tuple[GPUPool, ...]:
    """Return the pools of a question. Raises ManifestInvalid."""
    manifests = [
        {
            "apiVersion": API_VERSION,
            "kind": POOL_KIND,
            "metadata": {"name": pool.get("name", f"pool-{number}")},
            "spec": {key: value for key, value in pool.items() if key != "name"},
        }
        for number, pool in enumerate(pools)
    ]
    return parse_pools("\n---\n".join(map(json.dumps, manifests)))
