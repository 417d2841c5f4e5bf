"""A full fine-tune whose upload would take long: the attempt leaves its model, and a Pod without GPUs publishes it."""

import json
from dataclasses import replace
from typing import Any

from finetune_contract import ExportConfig, Outcome, RunConfig, run_file
from finetune_operator.api.plan import ExportPlan
from finetune_operator.api.published import ExportStatus
from finetune_operator.api.status import CostStatus
from finetune_operator.manifests import names

from tests.unit.lifecycle.lifecycle_builders import a_failure, a_report, published
from tests.unit.lifecycle.world import World, a_training_world, a_world

PLANNED = ExportPlan(publishes=True, memory_gib=4, cpus=4, ephemeral_gib=11, seconds=60, size_gib="0.25")
CHECKPOINT = "s3://team-a/out/.checkpoints/attempt-0-step-160"
MODEL = replace(published().artifacts[0], kind="model", uri="s3://team-a/out/model", lora_rank=0)


def trained(**parts: Any) -> Outcome:
    """What an attempt reports that has left its model."""
    return published(reason="Trained", message="trained 169 steps", artifacts=(), **parts)


def made(*kinds: str) -> Outcome:
    """What the Pod reports: the model first."""
    forms = (replace(MODEL, kind=kind, uri=f"s3://team-a/out/{kind}") for kind in kinds)
    return Outcome(outcome="Succeeded", reason="Published", message="published", artifacts=(MODEL, *forms))


def training(**spec: Any) -> World:
    return a_training_world(plan={"method": "full", "export": PLANNED}, **spec).later(600)


def publishing(**spec: Any) -> World:
    """A job that has trained its model, and whose Pod without GPUs runs."""
    return training(**spec).end("bot-0-0", 0, trained()).settle().run("bot-export-0", "cpu-1").settle()


def told(world: World, name: str, kind: type[Any]) -> Any:
    return run_file.read(kind, world.manifests[name]["metadata"]["annotations"][names.RUN_ANNOTATION])


def test_the_gpus_are_free_before_anything_is_published():
    """The attempt has ended and is paid for. Nothing says yet that there is a result."""
    world = training().end("bot-0-0", 0, trained())
    (manifest,) = world.one_pass().create

    assert told(world, "bot-0-0", RunConfig).hand_over
    raw = json.loads(world.manifests["bot-0-0"]["metadata"]["annotations"][names.RUN_ANNOTATION])
    assert raw["optional"] == ["costSoFar", "handOver"]  # a trainer that does not know it publishes by itself
    assert told(world, "bot-export-0", ExportConfig).handed_over_by == 0
    assert manifest["spec"]["containers"][0]["resources"]["limits"] == {
        "cpu": "4", "memory": "4Gi", "ephemeral-storage": "11Gi",
    }  # fmt: skip
    assert world.status.export == ExportStatus(
        number=0, memory_gib=4, ephemeral_gib=11, cpus=4, image="finetune-trainer:dev"
    )
    attempt = world.attempts[0]
    assert (attempt.outcome, attempt.handed_over, attempt.last_step) == ("Succeeded", True, 169)
    assert (world.status.artifacts, world.status.adapter_uri) == ([], None)
    assert (world.status.phase, world.condition("Reconciling")) == (
        "Publishing", ("True", "Publishing", "publishing the model; no GPU is held"),
    )  # fmt: skip
    assert world.condition("Succeeded")[0] == "Unknown"
    cost = world.status.cost
    world.run("bot-export-0").later(3600).settle()
    assert world.status.cost == cost == CostStatus(gpu_hours="0.1667", cost_usd="0.60")


def test_the_job_ends_when_the_model_is_published():
    """Evaluation is the attempt's, the artifact is the Pod's."""
    world = publishing().end("bot-export-0", 0, made()).settle()

    assert world.condition("Succeeded") == ("True", "Published", "published at s3://team-a/out/model")
    assert [artifact.uri for artifact in world.status.artifacts] == ["s3://team-a/out/model"]
    assert world.status.adapter_uri == "s3://team-a/out/model"
    assert world.status.evaluation is not None
    assert world.created == ["bot-preflight-1", "bot-0-0", "bot-export-0"]


def test_forms_are_made_in_the_same_pod():
    """One Pod is told of both, and has room for both."""
    world = publishing(output={"destination": "s3://team-a/out", "exports": ["gguf-q8_0"]})

    assert world.condition("Reconciling")[1:] == (
        "Publishing", "publishing the model, then making gguf-q8_0 of it; no GPU is held",
    )  # fmt: skip
    assert told(world, "bot-export-0", ExportConfig).exports == ("gguf-q8_0",)
    world.end("bot-export-0", 0, made("gguf-q8_0")).settle()
    assert world.condition("Succeeded")[2] == "published at s3://team-a/out/model, and as gguf-q8_0"


def test_a_pod_that_published_and_failed_at_a_form_is_not_asked_for_the_model_again():
    """It says what is there; the next one makes the rest."""
    world = publishing(output={"destination": "s3://team-a/out", "exports": ["gguf-q8_0"]})
    world.end("bot-export-0", 0, made()).settle()

    assert world.condition("Succeeded")[1] == "ExportFailed"
    assert world.status.adapter_uri == "s3://team-a/out/model"


def test_a_failure_is_tried_again_and_nothing_is_trained_again():
    """The disk was too small: half as much again, in a new Pod, after a pause."""
    world = publishing().end("bot-export-0", 1, a_failure("StorageFull", "no space left")).settle()
    waiting = world.condition("Reconciling")
    world.later(10).settle()

    assert waiting == (
        "True", "BackOff",
        "publishing the model failed (StorageFull: no space left) and is retried at 2026-01-31T12:10:10Z",
    )  # fmt: skip
    assert world.created == ["bot-preflight-1", "bot-0-0", "bot-export-0", "bot-export-1"]
    assert told(world, "bot-export-1", ExportConfig).handed_over_by == 0
    export = world.status.export
    assert export is not None
    assert (export.number, export.failures, export.ephemeral_gib) == (1, 1, 17)
    world.run("bot-export-1").end("bot-export-1", 0, made()).settle()
    assert world.condition("Succeeded")[:2] == ("True", "Published")


def test_a_model_that_only_the_user_can_publish_ends_the_job():
    """The checkpoints stay, and how to go on is said."""
    refused = a_failure("OutputNotWritable", "s3://team-a/out may not be written: correct the Secret")
    world = publishing().end("bot-export-0", 87, refused).settle()

    assert world.condition("Succeeded") == (
        "False", "PublishFailed",
        "the model could not be published: s3://team-a/out may not be written: correct the Secret. Once the cause is corrected, delete "
        f"the job, without its checkpoints, and apply it again: it continues from its last checkpoint {CHECKPOINT} and publishes the model",
    )  # fmt: skip
    assert world.status.adapter_uri is None
    assert world.status.checkpoint is not None


def test_tries_are_counted_and_the_clusters_faults_are_not():
    """As those of an export."""
    world = publishing(runPolicy={"maxRetries": 1})
    world.end("bot-export-0", 143, disruption="EvictionByEvictionAPI").settle().later(60).settle()
    for number in (1, 2):
        world.run(f"bot-export-{number}").end(f"bot-export-{number}", 1, a_failure()).settle().later(60).settle()

    assert world.condition("Succeeded")[1] == "PublishFailed"
    assert "2 tries failed (runPolicy.maxRetries is 1), most recently: it broke" in world.condition("Succeeded")[2]


def test_a_pod_that_vanishes_is_created_again():
    """A drain took it away."""
    world = publishing().vanish("bot-export-0").settle()

    assert world.created[-2:] == ["bot-export-0", "bot-export-0"]
    assert world.condition("Reconciling")[1] == "Publishing"


def test_a_pod_without_a_node_says_what_it_needs():
    """The cluster has no CPU node with such a disk."""
    world = training().end("bot-0-0", 0, trained()).settle()
    world.change("bot-export-0", unschedulable="0/4 nodes are available: 4 Insufficient ephemeral-storage").settle()

    assert world.condition("Reconciling") == (
        "True", "Unschedulable",
        "publishing the model: 0/4 nodes are available: 4 Insufficient ephemeral-storage It needs 4 CPUs, 4 GiB of memory and 11 GiB of "
        "local disk on a node; no GPU",
    )  # fmt: skip


def test_suspend_stops_publishing_and_resuming_goes_on_with_it():
    """Nothing of the training is touched."""
    world = publishing()
    world.edit(suspend=True).settle()
    world.end("bot-export-0", 143).reap().settle()
    assert (world.status.phase, world.condition("Suspended")[2]) == (
        "Suspended", "spec.suspend is true: set it to false to resume publishing the model",
    )  # fmt: skip

    world.edit(suspend=False).settle()

    assert (world.created[-1], world.condition("Reconciling")[1]) == ("bot-export-0", "Publishing")
    assert len(world.attempts) == 1


def test_a_budget_that_is_spent_does_not_stop_publishing():
    """It holds no GPU."""
    world = publishing(runPolicy={"budget": {"maxCostUSD": "0.60"}})

    assert world.condition("Reconciling")[1] == "Publishing"


def test_an_attempt_that_published_itself_leaves_nothing_to_do():
    """Its checkpoints did not hold the weights that it published."""
    world = training().end("bot-0-0", 0, published(artifacts=(MODEL,))).settle()

    assert world.created == ["bot-preflight-1", "bot-0-0"]
    assert world.condition("Succeeded") == ("True", "Published", "published at s3://team-a/out/model")


def test_an_attempt_of_an_older_operator_has_published():
    """Its trainer did not report the artifact: that says nothing about a model that is left."""
    world = training().end("bot-0-0", 0, published(artifacts=())).settle()

    assert world.condition("Succeeded")[:2] == ("True", "Published")


def test_the_other_replicas_are_waited_for_as_ever():
    """Replica 0 has left the model; the Pod without GPUs comes when no GPU is held."""
    world = a_training_world(plan={"method": "full", "export": PLANNED}, resources={"gpus": 2}).later(600)
    world.end("bot-0-0", 0, trained()).settle()

    assert "bot-export-0" not in world.created
    assert world.condition("Reconciling")[1:] == ("Publishing", "trained; waiting for the other replicas to exit")
    world.end("bot-0-1", 0, trained()).settle()
    assert world.created[-1] == "bot-export-0"
    assert world.attempts[0].handed_over


def test_a_job_that_is_deleted_frees_its_pod():
    """As any other Pod, whatever somebody's finalizer holds the job for."""
    world = publishing()
    gone = {"deletion_timestamp": "2026-01-31T12:00:00Z", "finalizers": ["example.com/meter"]}
    world.job = world.job.model_copy(update={"metadata": world.job.metadata.model_copy(update=gone)})
    world.settle()

    assert world.deleted == ["bot-export-0"]


def test_a_run_that_is_applied_again_after_its_model_was_published_is_complete():
    """Preflight finds the manifest that the Pod has written."""
    world = a_world().settle()
    found = replace(made(), reason="AlreadyPublished", message="this run is already complete", preflight=a_report())
    world.run("bot-preflight-1").end("bot-preflight-1", 0, found).settle()

    assert world.condition("Succeeded")[:2] == ("True", "AlreadyPublished")
