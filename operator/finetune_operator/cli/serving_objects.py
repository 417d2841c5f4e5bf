"""What serves the results of jobs in a cluster: which artifact, on how much of what. Called by manifests."""

import math
import re
from dataclasses import dataclass, replace

import yaml
from finetune_contract.engines import VLLM_OWN_STOPS

from finetune_operator.api.job_rules import NAME_LENGTH, NAME_MESSAGE, NAME_PATTERN
from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.published import ArtifactStatus
from finetune_operator.api.reasons import ConditionType
from finetune_operator.api.status import FineTuneJob
from finetune_operator.errors import FinetuneError
from finetune_operator.lifecycle.conditions import find
from finetune_operator.manifests.engine import Engine
from finetune_operator.manifests.kserve import llm_inference_service
from finetune_operator.manifests.labels import Manifest
from finetune_operator.manifests.run_config import model, output_location
from finetune_operator.manifests.serving import (
    LLAMA_CPP_GIB,
    Served,
    Serving,
    deployment,
    llama_cpp_container,
    service,
    vllm_container,
)
from finetune_operator.planning.pools.gpus import gpu
from finetune_operator.planning.serving import GIB, Load, gpus_for, kv_bytes_per_token, longest_for, serving_needs

HOST_GIB = 8
"""Host memory of vLLM beside one copy of the weights, through which they are read."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How the results are to be served."""

    length: int
    concurrency: int
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
    serving = serving_of(jobs, engine, length=wishes.length, concurrency=wishes.concurrency)
    serving = named(replace(serving, image=wishes.image), wishes.name)
    return "---\n".join(yaml.safe_dump(item, sort_keys=False) for item in manifests(engine, serving))


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


def manifests(engine: Engine, serving: Serving) -> tuple[Manifest, ...]:
    """Return the objects, ready to apply. Raises FinetuneError for a model that KServe does not fetch."""
    match engine:
        case "vllm":
            return (deployment(serving, vllm_container(serving)), service(serving))
        case "llama-cpp":
            return (deployment(serving, llama_cpp_container(serving)), service(serving))
        case "kserve":
            return (llm_inference_service(serving),)


def serving_of(jobs: list[FineTuneJob], engine: Engine, *, length: int, concurrency: int) -> Serving:
    """Return what is served and with what. Raises FinetuneError where the engine cannot serve it, or nothing holds it."""
    results = tuple(served(job, engine, several=len(jobs) > 1) for job in jobs)
    first, status = results[0].artifact, jobs[0].status
    for job, result in zip(jobs, results, strict=True):
        mine = (result.artifact.base_model, result.artifact.base_revision)
        if mine != (first.base_model, first.base_revision):
            raise FinetuneError(
                f"{job.metadata.name} belongs to base model {mine[0]} {mine[1]}, and {jobs[0].metadata.name} to {first.base_model} "
                f"{first.base_revision}: one server loads only adapters of the same base model and revision"
            )
    refuse_different_ends(jobs, results)
    if status.plan is None or status.preflight is None or status.preflight.architecture is None:
        raise FinetuneError(
            f"{jobs[0].metadata.name} was never planned here: its status does not say on which GPUs it fits"
        )
    shape = status.preflight.architecture
    adapters = sum(result.artifact.kind == "adapter" for result in results)
    rank = max(result.artifact.lora_rank for result in results)
    load = Load(length=length, concurrency=concurrency, adapters=adapters, lora_rank=rank)
    size = sum(result.artifact.size_bytes for result in results) / GIB
    base = replace(model(jobs[0].spec.model), revision=first.base_revision)
    own = Serving(
        namespace=jobs[0].metadata.namespace, results=results, base=base, load=load, gpus=0, memory_gib=0,
        disk_gib=math.ceil(1.1 * (size + (2 * shape.num_parameters / GIB if adapters else 0)) + 2),
        pool=status.plan.pool, trainer_image=status.plan.image,
    )  # fmt: skip
    return on_cpus(own, shape, size) if engine == "llama-cpp" else on_gpus(own, shape)


def refuse_different_ends(jobs: list[FineTuneJob], results: tuple[Served, ...]) -> None:
    """Raise FinetuneError where adapters end answers in their own ways: a vLLM server has one generation_config.json."""
    own = [job for job, one in zip(jobs, results, strict=True) if VLLM_OWN_STOPS in one.artifact.servable]
    if other := next((job for job in own if job.spec.chat != own[0].spec.chat), None):
        raise FinetuneError(
            f"{own[0].metadata.name} and {other.metadata.name} may end answers with different tokens (spec.chat differs), and one server "
            "stops at the same tokens for all adapters: serve them separately"
        )


def on_cpus(serving: Serving, shape: ModelArchitecture, size_gib: float) -> Serving:
    """Return a server in host memory: the file, which is mapped, and the KV cache."""
    load = serving.load
    cache = kv_bytes_per_token(shape) * load.length * load.concurrency / GIB
    return replace(serving, memory_gib=math.ceil(size_gib + cache + LLAMA_CPP_GIB))


def on_gpus(serving: Serving, shape: ModelArchitecture) -> Serving:
    """Return a server on as few GPUs of the job's pool as hold it. Raises FinetuneError where a node's do not."""
    known = gpu(serving.pool.gpu_type)
    if known is None:
        raise FinetuneError(
            f"GPU type {serving.pool.gpu_type} is not in the catalogue (`finetune gpus`): its memory is not known"
        )
    needs, load = serving_needs(shape, serving.load), serving.load
    gpus = gpus_for(needs, shape, known.memory_gib)
    if gpus is None:
        longest = longest_for(shape, load, gpus=8, memory_gib=known.memory_gib)
        remedy = (
            f"pass --length {longest} or less, or a lower --concurrency"
            if longest >= 16
            else "serve a GGUF, or use a pool with more memory"
        )
        raise FinetuneError(
            f"8 x {known.name} do not hold {needs.weights_gib:.0f} GiB of weights and {needs.kv_cache_gib:.0f} GiB of KV cache "
            f"({load.concurrency} requests of {load.length:,} tokens): {remedy}"
        )
    return replace(serving, gpus=gpus, memory_gib=math.ceil(needs.weights_gib + HOST_GIB))


def served(job: FineTuneJob, engine: Engine, *, several: bool) -> Served:
    """Return the artifact of a job that an engine serves. Raises FinetuneError that says what to export."""
    name, artifacts = job.metadata.name, {str(artifact.kind): artifact for artifact in job.status.artifacts}
    if not artifacts:
        raise FinetuneError(f"{name} has published nothing yet (phase {job.status.phase})")
    if (found := suitable(artifacts, engine, several=several)) is None:
        raise FinetuneError(f"{name} has nothing that {engine} serves: {remedy(job, engine, several=several)}")
    return Served(name=name, job=name, artifact=found, secret=output_location(job.spec.output).secret)


def suitable(artifacts: dict[str, ArtifactStatus], engine: Engine, *, several: bool) -> ArtifactStatus | None:
    """Return what an engine serves best: a whole model, for adapters of one base together the adapter."""
    if engine == "llama-cpp":
        return next((artifacts[kind] for kind in ("gguf-q8_0", "gguf-q4_k_m", "gguf-f16") if kind in artifacts), None)
    adapter = artifacts.get("adapter")
    loads = adapter if adapter is not None and adapter.servable.startswith("vllm") else None
    if several:
        return loads
    return artifacts.get("merged") or artifacts.get("model") or loads


def remedy(job: FineTuneJob, engine: Engine, *, several: bool) -> str:
    """Say what to do about it."""
    form = "gguf-q8_0" if engine == "llama-cpp" else "merged"
    adapter = next((one for one in job.status.artifacts if one.kind == "adapter"), None)
    why = f"its adapter is {adapter.servable}. " if several and adapter is not None else ""
    return f"{why}Add {form} to output.exports, delete the job and apply it again: nothing is trained again"
