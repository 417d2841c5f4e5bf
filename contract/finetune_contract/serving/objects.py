"""Which artifact of a job an engine serves, on how much of what, and the objects that do it. Part of contract."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetune_contract.data import Location
from finetune_contract.engines import VLLM_OWN_STOPS
from finetune_contract.pods import Manifest
from finetune_contract.report import Artifact
from finetune_contract.run import Chat, Model
from finetune_contract.served import Engine, Load, NotServable, ServingFacts
from finetune_contract.serving import sizes
from finetune_contract.serving.kserve import llm_inference_service
from finetune_contract.serving.server import (
    Served,
    Serving,
    deployment,
    llama_cpp_container,
    service,
    vllm_container,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a job has published."""

    namespace: str
    name: str
    artifacts: tuple[Artifact, ...]
    base: Model
    chat: Chat
    output: Location


def objects(engine: Engine, serving: Serving) -> tuple[Manifest, ...]:
    """Return the objects, ready to apply. Raises NotServable for a model that KServe does not fetch."""
    match engine:
        case "vllm":
            return (deployment(serving, vllm_container(serving)), service(serving))
        case "llama-cpp":
            return (deployment(serving, llama_cpp_container(serving)), service(serving))
        case "kserve":
            return (llm_inference_service(serving),)


def serving_of(jobs: Sequence[Result], facts: ServingFacts, engine: Engine, load: Load) -> Serving:
    """Return what is served and with what. Raises NotServable where the engine cannot serve it, or nothing holds it."""
    results = tuple(served(job, engine, several=len(jobs) > 1) for job in jobs)
    refuse_other_bases(results)
    refuse_different_ends(jobs, results)
    first = results[0].artifact
    adapters = sum(result.artifact.kind == "adapter" for result in results)
    load = replace(load, adapters=adapters, lora_rank=max(result.artifact.lora_rank for result in results))
    size = sum(result.artifact.size_bytes for result in results)
    own = Serving(
        namespace=jobs[0].namespace, results=results, base=replace(jobs[0].base, revision=first.base_revision), load=load,
        facts=facts, gpus=0, memory_gib=sizes.llama_cpp_host_gib(facts.model, load, size),
        disk_gib=sizes.disk_gib(facts.model, size, base=adapters > 0),
    )  # fmt: skip
    return own if engine == "llama-cpp" else on_gpus(own)


def refuse_other_bases(results: Sequence[Served]) -> None:
    """Raise NotServable unless all belong to one base model at one revision."""
    first = results[0]
    wanted = (first.artifact.base_model, first.artifact.base_revision)
    for result in results:
        mine = (result.artifact.base_model, result.artifact.base_revision)
        if mine != wanted:
            raise NotServable(
                f"{result.job} belongs to base model {mine[0]} {mine[1]}, and {first.job} to {wanted[0]} {wanted[1]}: one server "
                "loads only adapters of the same base model and revision"
            )


def refuse_different_ends(jobs: Sequence[Result], results: Sequence[Served]) -> None:
    """Raise NotServable where adapters end answers in their own ways: a vLLM server has one generation_config.json."""
    own = [job for job, one in zip(jobs, results, strict=True) if VLLM_OWN_STOPS in one.artifact.servable]
    if other := next((job for job in own if job.chat != own[0].chat), None):
        raise NotServable(
            f"{own[0].name} and {other.name} may end answers with different tokens (spec.chat differs), and one server stops at the same "
            "tokens for all adapters: serve them separately"
        )


def on_gpus(serving: Serving) -> Serving:
    """Return a server on as few GPUs of the job's pool as hold it. Raises NotServable where a node's do not."""
    facts, load = serving.facts, serving.load
    if not facts.gpu_type:
        raise NotServable(
            "no GPUPool had GPUs that hold the model when the adapters were merged: create one, delete the job and apply it again with "
            "another output.destination, or add gguf-q8_0 to output.exports and serve that with llama-cpp"
        )
    if not facts.gpu_memory_gib:
        raise NotServable(
            f"GPU type {facts.gpu_type} is not in the catalogue (`finetune gpus`): its memory is not known"
        )
    needs = sizes.serving_needs(facts.model, load)
    gpus = sizes.gpus_for(needs, facts.model, facts.gpu_memory_gib)
    if gpus is None:
        longest = sizes.longest_for(facts.model, load, gpus=sizes.MOST_GPUS, memory_gib=facts.gpu_memory_gib)
        remedy = (
            f"pass --length {longest} or less, or a lower --concurrency"
            if longest >= 16
            else "serve a GGUF, or use a pool with more memory"
        )
        raise NotServable(
            f"{sizes.MOST_GPUS} x {facts.gpu_type} do not hold {needs.weights_gib:.0f} GiB of weights and {needs.kv_cache_gib:.0f} GiB "
            f"of KV cache ({load.concurrency} requests of {load.length:,} tokens): {remedy}"
        )
    return replace(serving, gpus=gpus, memory_gib=sizes.vllm_host_gib(facts.model))


def served(job: Result, engine: Engine, *, several: bool) -> Served:
    """Return the artifact of a job that an engine serves. Raises NotServable that says what to export."""
    found = suitable({artifact.kind: artifact for artifact in job.artifacts}, engine, several=several)
    if found is None:
        raise NotServable(f"{job.name} has nothing that {engine} serves: {remedy(job, engine, several=several)}")
    return Served(name=job.name, job=job.name, artifact=found, secret=job.output.secret)


def suitable(artifacts: dict[str, Artifact], engine: Engine, *, several: bool) -> Artifact | None:
    """Return what an engine serves best: a whole model, for adapters of one base together the adapter."""
    if engine == "llama-cpp":
        return next((artifacts[kind] for kind in ("gguf-q8_0", "gguf-q4_k_m", "gguf-f16") if kind in artifacts), None)
    adapter = artifacts.get("adapter")
    loads = adapter if adapter is not None and adapter.servable.startswith("vllm") else None
    if several:
        return loads
    return artifacts.get("merged") or artifacts.get("model") or loads


def remedy(job: Result, engine: Engine, *, several: bool) -> str:
    """Say what to do about it."""
    form = "gguf-q8_0" if engine == "llama-cpp" else "merged"
    adapter = next((one for one in job.artifacts if one.kind == "adapter"), None)
    why = f"its adapter is {adapter.servable}. " if several and adapter is not None else ""
    return f"{why}Add {form} to output.exports, delete the job and apply it again: nothing is trained again"
