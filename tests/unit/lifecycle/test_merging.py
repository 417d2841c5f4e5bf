"""A job that merges adapters: preflight, then one Pod without GPUs, which measures the result too. No plan, no attempt, no pool."""

from dataclasses import replace
from typing import Any

import pytest
from finetune_contract import Artifact, Chat, ExportConfig, Location, Model, RunConfig
from finetune_contract.served import Load, NotServable
from finetune_contract.serving.objects import Result, serving_of
from finetune_contract.serving.text import files
from finetune_contract.wire import loads
from finetune_operator.api.pools import GPUPool
from finetune_operator.manifests import names
from finetune_operator.manifests.serving_facts import serving_facts

from tests.unit.lifecycle.lifecycle_builders import a_failure, examined, published
from tests.unit.lifecycle.world import World, a_world
from tests.unit.planning.planning_builders import a_pool

ADAPTERS = [{"source": "s3://team-a/one", "weight": "300"}, {"source": "s3://team-a/two", "weight": "100"}]
SPEC: dict[str, Any] = {
    "mergeOf": {"adapters": ADAPTERS, "method": "ties", "density": "0.4"},
    "evaluation": {"gate": {"minRelativeLossImprovement": "0.1"}},
}


def merging(*, pools: tuple[GPUPool, ...] = (), **spec: Any) -> World:
    """A job whose preflight has passed, in a cluster with these pools."""
    world = replace(a_world(**(SPEC | spec)), pools=pools).settle()
    found = examined(adapter_bytes=40_000_000)
    return world.run("bot-preflight-1").end("bot-preflight-1", 0, found).settle()


def told(world: World, pod: str) -> RunConfig:
    """What the Pod is told to merge."""
    config = loads(ExportConfig, world.manifests[pod]["metadata"]["annotations"][names.RUN_ANNOTATION])
    assert config.merge is not None
    return config.merge


def test_adapters_are_merged_without_a_pool_an_attempt_or_a_gpu():
    """The Pod is told the adapters with their weights, the rows that preflight prepared and the spec with its defaults."""
    world = merging()
    run = told(world, "bot-export-0")
    assert run.combine is not None

    assert world.created == ["bot-preflight-1", "bot-export-0"]
    assert [(one.location.uri, one.weight) for one in run.combine.adapters] == [
        ("s3://team-a/one", 300.0), ("s3://team-a/two", 100.0),
    ]  # fmt: skip
    assert (run.combine.method, run.combine.density, run.combine.rank, run.combine.seed) == ("ties", 0.4, 0, 42)
    assert (run.run_digest, run.model.revision, run.method) == ("sha256:" + "a" * 64, "c" * 40, "lora")
    limits = world.manifests["bot-export-0"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "4", "memory": "4Gi", "ephemeral-storage": "11Gi"}
    assert world.condition("Reconciling") == (
        "True", "Merging",
        "merges 2 adapters by ties in a Pod of 4 CPUs, 4 GiB of memory and 11 GiB of local disk, in about 12 min; no GPU, $0.00. The "
        "result is compared with the base model before it is published",
    )  # fmt: skip
    assert world.condition("Planned") == ("True", "Planned", "a Pod of 4 CPUs and 4 GiB of memory; no GPU, $0.00")


def test_the_result_is_served_on_the_cheapest_pool():
    """The choice is pinned before the Pod exists, and is the command line's, too."""
    l40s = {"gpuType": "NVIDIA-L40S", "pricePerGPUHourUSD": "1.00", "nodeSelector": [{"key": "gpu", "value": "l40s"}]}
    world = merging(pools=(a_pool(), a_pool("l40s", **l40s)))
    serving = told(world, "bot-export-0").serving

    assert world.status.export is not None
    assert world.status.export.serving_pool is not None
    assert world.status.export.serving_pool.name == "l40s"
    assert serving is not None
    assert (serving.gpu_type, serving.node_selector) == ("NVIDIA-L40S", {"gpu": "l40s"})
    assert serving == serving_facts(world.status)


def test_where_no_pool_holds_the_model_only_a_gguf_can_be_served():
    """llama.cpp needs no GPU; who asks for vLLM reads what to do."""
    serving = told(merging(), "bot-export-0").serving
    assert serving is not None
    artifacts = tuple(
        Artifact(kind=kind, uri=f"s3://team-a/out/{kind}", digest="sha256:1", size_bytes=1, servable="vllm")
        for kind in ("adapter", "gguf-q8_0")
    )
    base, output = Model(location=Location(uri="hf://org/base")), Location(uri="s3://team-a/out")
    result = Result(namespace="team-a", name="bot", base=base, chat=Chat(), output=output, artifacts=artifacts)

    assert list(files(result, serving)) == ["llama-cpp.yaml"]
    with pytest.raises(NotServable) as refusal:
        serving_of([result], serving, "vllm", Load())
    assert str(refusal.value) == (
        "no GPUPool had GPUs that hold the model when the adapters were merged: create one, delete the job and apply it again with "
        "another output.destination, or add gguf-q8_0 to output.exports and serve that with llama-cpp"
    )


def test_what_was_measured_decides_the_gate():
    """The figures and the adapter are in status, and the job is promoted as any other."""
    world = merging().run("bot-export-0").end("bot-export-0", 0, published()).settle()

    assert world.condition("Succeeded") == ("True", "Published", "published at s3://team-a/out/adapter")
    assert world.status.adapter_uri == "s3://team-a/out/adapter"
    assert (world.status.attempts, world.status.plan) == (None, None)
    assert world.condition("Promoted")[:2] == ("True", "GatePassed")


def test_forms_are_exported_by_the_same_pod():
    """Its memory and disk are those that the forms need, too."""
    world = merging(output={"destination": "s3://team-a/out", "exports": ["merged"]})
    config = loads(ExportConfig, world.manifests["bot-export-0"]["metadata"]["annotations"][names.RUN_ANNOTATION])

    assert (config.exports, config.merge is None) == (("merged",), False)


def test_plan_only_stops_before_the_pod():
    """What it takes is said, and nothing is created."""
    world = merging(planOnly=True)

    assert world.created == ["bot-preflight-1"]
    assert world.status.phase == "Planned"
    assert world.condition("Reconciling")[2].endswith("no GPU, $0.00: set spec.planOnly to false to merge them")


def test_adapters_that_cannot_be_merged_end_the_job():
    """The reason is the Pod's, and the remedy does what it says."""
    why = "s3://team-a/two has DoRA, which cannot be combined: use adapters of LoRA matrices only"
    world = merging().run("bot-export-0").end("bot-export-0", 87, a_failure("ModelUnsupported", why)).settle()

    assert world.condition("Succeeded") == ("False", "MergeFailed", f"the adapters could not be merged: {why}")
    assert world.condition("Stalled")[2].endswith("; to retry, delete the job and apply it again")


def test_a_merge_that_runs_out_of_memory_gets_more():
    """Half as much again, in a new Pod."""
    world = merging().run("bot-export-0").end("bot-export-0", 137, terminated_reason="OOMKilled").settle()
    said = world.condition("Reconciling")[2]
    world.later(10).settle()

    assert said.startswith("the merge failed (HostOutOfMemory: ")
    assert world.created[-1] == "bot-export-1"
    assert world.manifests["bot-export-1"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "6Gi"
