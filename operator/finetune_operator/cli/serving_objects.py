"""What serves the results of jobs in a cluster, as YAML. Called by manifests."""

import re
from dataclasses import dataclass, replace

from finetune_contract import Artifact
from finetune_contract.served import Engine, Load, NotServable
from finetune_contract.serving.objects import Result, objects, serving_of
from finetune_contract.serving.server import Serving
from finetune_contract.serving.text import as_yaml

from finetune_operator.api.job_rules import NAME_LENGTH, NAME_MESSAGE, NAME_PATTERN
from finetune_operator.api.reasons import ConditionType
from finetune_operator.api.status import FineTuneJob
from finetune_operator.errors import FinetuneError
from finetune_operator.lifecycle.conditions import find
from finetune_operator.manifests.run_config import chat, model, output_location
from finetune_operator.manifests.serving_facts import serving_facts


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How the results are to be served."""

    load: Load
    image: str = ""
    name: str = ""
    """Of the objects and, of a single result, of the model; empty: after the job."""
    unpromoted: bool = False
    """Also what did not pass its gate."""


def serving_objects(jobs: list[FineTuneJob], engine: Engine, wishes: Wishes) -> str:
    """Return the objects as YAML. Raises FinetuneError where the engine cannot serve the results, or nothing holds them."""
    for job in jobs:
        if not wishes.unpromoted:
            require_promotion(job)
    if wishes.name and not (len(wishes.name) <= NAME_LENGTH and re.fullmatch(NAME_PATTERN, wishes.name)):
        raise FinetuneError(f"--name {wishes.name} {NAME_MESSAGE}")
    try:
        return as_yaml(
            objects(engine, named(replace(server_of(jobs, engine, wishes.load), image=wishes.image), wishes.name))
        )
    except NotServable as refusal:
        raise FinetuneError(str(refusal)) from refusal


def server_of(jobs: list[FineTuneJob], engine: Engine, load: Load) -> Serving:
    """Return what is served and with what. Raises NotServable or FinetuneError where it cannot be."""
    results, facts = [result(job) for job in jobs], serving_facts(jobs[0].status)
    if facts is None:
        raise FinetuneError(
            f"{jobs[0].metadata.name} was never planned here: its status does not say on which GPUs it fits"
        )
    return serving_of(results, facts, engine, load)


def result(job: FineTuneJob) -> Result:
    """Return what a job has published. Raises FinetuneError where that is nothing."""
    if not job.status.artifacts:
        raise FinetuneError(f"{job.metadata.name} has published nothing yet (phase {job.status.phase})")
    return Result(
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        artifacts=tuple(
            Artifact(**artifact.model_dump(by_alias=False), base_model=job.spec.model.source.removeprefix("hf://"))
            for artifact in job.status.artifacts
        ),
        base=model(job.spec.model),
        chat=chat(job.spec.chat),
        output=output_location(job.spec.output),
    )


def require_promotion(job: FineTuneJob) -> None:
    """Raise FinetuneError for a model that did not pass its gate: it is published to be looked at."""
    found = find(job.status, ConditionType.PROMOTED)
    if found is not None and found.status == "False":
        raise FinetuneError(
            f"{job.metadata.name} did not pass its gate ({found.message}): train a better one, or pass --unpromoted to serve it "
            "all the same"
        )


def named(serving: Serving, name: str) -> Serving:
    """Return a server whose objects have a name that stays when the result is replaced; a single result answers to it, too."""
    if not name:
        return serving
    results = serving.results if len(serving.results) > 1 else (replace(serving.results[0], name=name),)
    return replace(serving, results=results, called=name)
