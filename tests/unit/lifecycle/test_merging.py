"""A job that merges adapters: preflight, then one Pod without GPUs, which measures the result too. No plan, no attempt, no pool."""

from dataclasses import replace
from typing import Any

from finetune_contract import ExportConfig, RunConfig
from finetune_contract.wire import loads
from finetune_operator.manifests import names

from tests.unit.lifecycle.lifecycle_builders import a_failure, examined, published
from tests.unit.lifecycle.world import World, a_world

ADAPTERS = [{"source": "s3://team-a/one", "weight": "300"}, {"source": "s3://team-a/two", "weight": "100"}]
SPEC: dict[str, Any] = {
    "mergeOf": {"adapters": ADAPTERS, "method": "ties", "density": "0.4"},
    "evaluation": {"gate": {"minRelativeLossImprovement": "0.1"}},
}


def merging(**spec: Any) -> World:
    """A job whose preflight has passed, in a namespace without pools."""
    world = replace(a_world(**(SPEC | spec)), pools=()).settle()
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
    assert limits == {"cpu": "4", "memory": "6Gi", "ephemeral-storage": "11Gi"}
    assert world.condition("Reconciling") == (
        "True", "Merging",
        "merges 2 adapters by ties in a Pod of 4 CPUs, 6 GiB of memory and 11 GiB of local disk, in about 25 min; no GPU, $0.00. The "
        "result is compared with the base model before it is published",
    )  # fmt: skip
    assert world.condition("Planned") == ("True", "Planned", "a Pod of 4 CPUs and 6 GiB of memory; no GPU, $0.00")


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
    assert world.manifests["bot-export-1"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "9Gi"
