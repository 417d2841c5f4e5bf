"""After the result is published: a Pod without GPUs makes further forms of it, and what becomes of the job where it cannot."""

from dataclasses import replace
from typing import Any

from finetune_contract import Outcome
from finetune_operator.api.published import ExportStatus
from finetune_operator.api.status import CostStatus

from tests.unit.lifecycle.lifecycle_builders import a_failure, a_report, published
from tests.unit.lifecycle.world import World, a_training_world, a_world

OUTPUT = {"destination": "s3://team-a/out", "exports": ["merged", "gguf-q8_0"]}


def with_exports(*kinds: str) -> Outcome:
    """What an export Pod reports: all that is published, the adapter first."""
    (adapter,) = published().artifacts
    forms = (replace(adapter, kind=kind, uri=f"s3://team-a/out/{kind}", checked="256 tokens") for kind in kinds)
    return Outcome(outcome="Succeeded", reason="Published", message="published", artifacts=(adapter, *forms))


def exporting(**spec: Any) -> World:
    """A job whose adapter is published and whose export Pod runs."""
    world = a_training_world(output=OUTPUT, **spec).later(600).end("bot-0-0", 0, published()).settle()
    return world.run("bot-export-0", "cpu-1").settle()


def test_the_gpus_are_free_before_anything_is_exported():
    """The attempt has ended and is paid for; the export Pod asks for no GPU."""
    world = a_training_world(output=OUTPUT).later(600).end("bot-0-0", 0, published())
    decision = world.one_pass()
    (manifest,) = decision.create

    assert (world.created[-1], world.attempts[0].outcome) == ("bot-export-0", "Succeeded")
    assert manifest["spec"]["containers"][0]["resources"]["limits"] == {
        "cpu": "4", "memory": "4Gi", "ephemeral-storage": "11Gi",
    }  # fmt: skip
    assert world.status.export == ExportStatus(
        number=0, memory_gib=4, ephemeral_gib=11, cpus=4, image="finetune-trainer:dev"
    )
    assert (world.status.phase, world.condition("Reconciling")) == (
        "Publishing",
        ("True", "Exporting", "making merged and gguf-q8_0 of the published result; no GPU is held"),
    )
    assert world.condition("Succeeded")[0] == "Unknown"
    cost = world.status.cost
    world.run("bot-export-0").later(3600).settle()
    assert world.status.cost == cost == CostStatus(gpu_hours="0.1667", cost_usd="0.60")


def test_the_job_ends_when_every_form_is_published():
    """The artifacts are in status, the adapter first."""
    world = exporting().end("bot-export-0", 0, with_exports("merged", "gguf-q8_0")).settle()

    assert [artifact.kind for artifact in world.status.artifacts] == ["adapter", "merged", "gguf-q8_0"]
    assert world.status.adapter_uri == "s3://team-a/out/adapter"
    assert world.condition("Succeeded") == (
        "True", "Published", "published at s3://team-a/out/adapter, and as merged and gguf-q8_0",
    )  # fmt: skip


def test_a_failed_export_is_tried_again_and_nothing_is_trained_again():
    """Out of host memory: half as much again, in a new Pod, after a pause."""
    world = exporting().end("bot-export-0", 137, terminated_reason="OOMKilled").settle()
    waiting = world.condition("Reconciling")
    world.later(10).settle()

    assert waiting == (
        "True", "BackOff",
        "the export failed (HostOutOfMemory: Pod bot-export-0 was killed because it reached its memory limit) and is retried at "
        "2026-01-31T12:10:10Z",
    )  # fmt: skip
    assert world.created == ["bot-preflight-1", "bot-0-0", "bot-export-0", "bot-export-1"]
    export = world.status.export
    assert export is not None
    assert (export.number, export.failures, export.memory_gib) == (1, 1, 6)
    world.run("bot-export-1").end("bot-export-1", 0, with_exports("merged", "gguf-q8_0")).settle()
    assert world.condition("Succeeded")[:2] == ("True", "Published")


def test_an_export_that_only_the_user_can_mend_ends_the_job():
    """What was trained stays published, and how to go on is said."""
    refused = a_failure(
        "ExportFailed", "llama.cpp's converter refused the model: Model FooForCausalLM is not supported"
    )
    world = exporting().end("bot-export-0", 87, refused).settle()

    assert world.condition("Succeeded") == (
        "False", "ExportFailed",
        "merged and gguf-q8_0 could not be made: llama.cpp's converter refused the model: Model FooForCausalLM is not supported. The "
        "result is published at s3://team-a/out/adapter; once the cause is corrected, delete the job and apply it again: nothing is "
        "trained again",
    )  # fmt: skip
    assert world.status.adapter_uri == "s3://team-a/out/adapter"


def test_exports_that_keep_failing_end_the_job_after_max_retries():
    """Tries are counted for themselves: those of training are over."""
    world = exporting(runPolicy={"maxRetries": 1})
    world.end("bot-export-0", 1, a_failure()).settle().later(60).settle()
    world.run("bot-export-1").end("bot-export-1", 1, a_failure()).settle()

    assert world.condition("Succeeded")[1] == "ExportFailed"
    assert "2 tries failed (runPolicy.maxRetries is 1), most recently: it broke" in world.condition("Succeeded")[2]


def test_an_evicted_export_does_not_count():
    """The cluster's faults are not the job's."""
    world = exporting(runPolicy={"maxRetries": 0})
    world.end("bot-export-0", 143, disruption="EvictionByEvictionAPI").settle().later(60).settle()

    assert world.created[-1] == "bot-export-1"
    assert world.condition("Succeeded")[0] == "Unknown"


def test_an_export_pod_that_vanishes_is_created_again():
    """A drain took it away."""
    world = exporting().vanish("bot-export-0").settle()

    assert world.created[-2:] == ["bot-export-0", "bot-export-0"]
    assert world.condition("Reconciling")[1] == "Exporting"


def test_a_finished_job_with_another_export_exports_without_training():
    """Preflight finds the run complete: one CPU Pod, no GPU, no attempt."""
    world = a_world(output=OUTPUT).settle()
    found = published(reason="AlreadyPublished", message="this run is already complete", step=0)
    found = replace(found, artifacts=with_exports("merged").artifacts, preflight=a_report())
    world.run("bot-preflight-1").end("bot-preflight-1", 0, found).settle()
    assert world.created == ["bot-preflight-1", "bot-export-0"]
    world.vanish("bot-preflight-1").run("bot-export-0").settle()
    world.end("bot-export-0", 0, with_exports("merged", "gguf-q8_0")).settle()

    assert world.status.attempts is None
    assert world.condition("Succeeded") == (
        "True", "AlreadyPublished", "this run is already complete at s3://team-a/out; nothing is trained again",
    )  # fmt: skip
    assert [artifact.kind for artifact in world.status.artifacts] == ["adapter", "merged", "gguf-q8_0"]


def test_suspend_stops_an_export_and_resuming_goes_on_with_it():
    """Nothing of the training is touched."""
    world = exporting()
    world.edit(suspend=True).settle()
    world.end("bot-export-0", 143).reap().settle()
    assert (world.status.phase, world.condition("Suspended")[2]) == (
        "Suspended", "spec.suspend is true: set it to false to resume the export",
    )  # fmt: skip

    world.edit(suspend=False).settle()

    assert (world.created[-1], world.condition("Reconciling")[1]) == ("bot-export-0", "Exporting")
    assert len(world.attempts) == 1


def test_a_budget_that_is_spent_does_not_stop_an_export():
    """It holds no GPU, and the result is there."""
    world = exporting(runPolicy={"budget": {"maxCostUSD": "0.60"}})

    assert world.condition("Reconciling")[1] == "Exporting"


def test_a_full_fine_tune_needs_no_merge():
    """auto chose full: the model that is published is whole already."""
    model = replace(published().artifacts[0], kind="model", uri="s3://team-a/out/model")
    output = {**OUTPUT, "exports": ["merged"]}
    world = a_training_world(output=output).end("bot-0-0", 0, published(artifacts=(model,))).settle()

    assert world.condition("Succeeded") == ("True", "Published", "published at s3://team-a/out/model")
