"""The way from the first sight of a job to its published adapter, and what is never done on it."""

from dataclasses import replace
from typing import Any

from finetune_operator.api.status import AttemptStatus, CheckpointStatus, CostStatus, EvaluationStatus, MemoryStatus
from finetune_operator.lifecycle.observation import Event
from finetune_trainer.contract import Sample

from tests.unit.lifecycle.lifecycle_builders import (
    World,
    a_failure,
    a_planned_world,
    a_pool,
    a_progress,
    a_training_world,
    a_world,
    examined,
    published,
)

ATTEMPT: dict[str, Any] = {
    "number": 0, "start_time": "2026-01-31T12:00:00Z", "running_time": "2026-01-31T12:00:00Z", "node_names": ["node-1"],
}  # fmt: skip


def conditions(world: World) -> dict[str, str]:
    return {item.type: f"{item.status} {item.reason}" for item in world.status.conditions}


def test_on_first_sight_every_condition_is_there_and_preflight_starts():
    """A tool that waits must not take a job without conditions for one that is done."""
    world = a_world()
    world.one_pass()

    assert conditions(world) == {
        "Accepted": "True Accepted",
        "Planned": "Unknown Examining",
        "PodsReady": "False Examining",
        "Suspended": "False NotSuspended",
        "Reconciling": "True Examining",
        "Stalled": "False Examining",
        "Succeeded": "Unknown Examining",
    }
    assert (world.status.phase, world.status.observed_generation, world.created) == (
        "Preflight",
        1,
        ["bot-preflight-1"],
    )


def test_the_attempt_is_in_status_before_its_pods_exist():
    """Plan, resolved spec and attempt are pinned by the same decision that creates the Pods."""
    world = a_world().settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined())

    decision = world.one_pass()

    status = decision.status
    assert status.plan is not None
    assert status.resolved is not None
    assert [manifest["metadata"]["name"] for manifest in decision.create] == ["bot-0-0"]
    assert status.attempts == [AttemptStatus(number=0, start_time="2026-01-31T12:00:00Z")]
    assert status.run_digest == "sha256:" + "a" * 64
    assert (status.phase, world.condition("Reconciling")) == (
        "Planned",
        ("True", "Starting", "creating 1 Pod of attempt 0"),
    )


def test_a_running_job_is_current_and_not_yet_successful():
    """kstatus calls a job Current once all its Pods run, and not before."""
    world = a_planned_world()
    assert world.condition("Reconciling")[0] == "True"

    world.run("bot-0-0").settle()

    assert world.status.phase == "Training"
    assert world.condition("Reconciling") == ("False", "Running", "attempt 0 runs: lora on 1 x H100-80GB-HBM3")
    assert world.condition("PodsReady")[:2] == ("True", "Running")
    assert world.condition("Succeeded")[0] == "Unknown"


def test_progress_checkpoint_and_cost_are_reported_while_it_runs():
    """600 GPU-seconds at 0.001 USD each."""
    world = a_training_world().later(600).report(a_progress(80, checkpoint_step=60, learning_rate=1.5e-4)).settle()

    assert world.attempts == [
        AttemptStatus(**ATTEMPT, last_step=80, checkpoint_step=60, gpu_seconds=600, cost_usd="0.60")
    ]
    assert world.status.checkpoint == CheckpointStatus(
        step=60, uri="s3://team-a/out/.checkpoints/attempt-0-step-60", time="2026-01-31T12:10:00Z"
    )
    assert world.status.cost == CostStatus(gpu_hours="0.1667", cost_usd="0.60")
    progress = world.status.progress
    assert progress is not None
    assert (progress.percent, progress.loss, progress.learning_rate) == (47, "1.2500", "0.00015")


def test_a_published_run_ends_with_its_adapter_evaluation_memory_and_final_cost():
    """Everything a user asks for afterwards is in status."""
    world = a_training_world().later(610).report(a_progress(160)).end("bot-0-0", 0, published()).settle()

    status = world.status
    assert (status.phase, status.adapter_uri) == ("Succeeded", "s3://team-a/out/adapter")
    assert world.condition("Succeeded") == ("True", "Published", "published at s3://team-a/out/adapter")
    assert conditions(world) == {
        "Accepted": "True Accepted",
        "Planned": "True Planned",
        "PodsReady": "False Finished",
        "Suspended": "False NotSuspended",
        "Reconciling": "False Published",
        "Stalled": "False Published",
        "Succeeded": "True Published",
    }
    assert status.evaluation == EvaluationStatus(
        examples=200, base_loss="2.0000", tuned_loss="1.5000", base_perplexity="7.39", tuned_perplexity="4.48",
        relative_improvement="0.2500",
    )  # fmt: skip
    assert status.cost == CostStatus(gpu_hours="0.1694", cost_usd="0.61")
    assert status.memory == MemoryStatus(predicted_gib="11.48", measured_gib="12.50", reserved_gib="14.00")
    assert status.completion_time == "2026-01-31T12:10:10Z"
    assert status.progress is not None
    assert (status.progress.percent, status.progress.phase) == (100, "done")
    assert [item.digest for item in status.artifacts] == ["sha256:" + "e" * 64]


def test_publishing_has_a_phase_of_its_own():
    """The trainer says when it has stopped training."""
    world = a_training_world().report(a_progress(169, phase="publishing")).settle()

    assert (world.status.phase, world.condition("Reconciling")[1]) == ("Publishing", "Publishing")


def test_a_run_that_is_published_already_ends_without_a_gpu():
    """Applying a finished job again costs nothing, and its adapter is found again."""
    world = a_world().settle()
    found = published(reason="AlreadyPublished", message="the same run is complete at s3://team-a/out", step=0)
    world.run("bot-preflight-1").end("bot-preflight-1", 0, found).settle()

    assert world.created == ["bot-preflight-1"]
    assert world.status.attempts is None
    assert world.condition("Succeeded") == (
        "True", "AlreadyPublished", "the same run is complete at s3://team-a/out",
    )  # fmt: skip
    assert world.status.adapter_uri == "s3://team-a/out/adapter"
    assert world.status.cost == CostStatus()


def test_a_trainer_that_finds_its_result_complete_says_so():
    """The Pod vanished after publishing: the next attempt finds the manifest in the store."""
    world = a_training_world().later(100).vanish("bot-0-0").settle()
    assert [entry.outcome for entry in world.attempts] == ["Killed"]
    world.later(10).settle()
    world.run("bot-1-0").settle().end("bot-1-0", 0, published(reason="AlreadyPublished")).settle()

    assert world.condition("Succeeded")[:2] == ("True", "AlreadyPublished")


def test_a_succeeded_pod_that_vanishes_later_changes_nothing():
    """A drain takes finished Pods too; what was recorded stands."""
    world = a_training_world().later(10).end("bot-0-0", 0, published()).settle()
    before = world.status

    world.vanish("bot-0-0").settle()

    assert world.status == before


def test_plan_only_stops_after_the_plan_and_goes_on_without_a_second_preflight():
    """planOnly: false is not an edit of what was examined."""
    world = a_planned_world(planOnly=True)
    assert (world.status.phase, world.created) == ("Planned", ["bot-preflight-1"])
    assert world.condition("Reconciling") == (
        "False", "PlanOnly", "lora on 1 x H100-80GB-HBM3: set spec.planOnly to false to run it",
    )  # fmt: skip

    world.edit(planOnly=False).settle()

    assert world.created == ["bot-preflight-1", "bot-0-0"]
    assert world.status.preflight_generation == 1


def test_an_edit_before_the_first_attempt_starts_preflight_again():
    """A typo found by preflight is fixed in place; the old Pod goes."""
    world = a_world().settle()
    missing = a_failure("DatasetNotFound", "s3://team-a/trian.jsonl does not exist: correct datasets[0].source")
    world.run("bot-preflight-1").end("bot-preflight-1", 87, missing).settle()
    assert (world.status.phase, world.condition("Stalled")) == (
        "Failed",
        ("True", "DatasetNotFound", "s3://team-a/trian.jsonl does not exist: correct datasets[0].source"),
    )

    world.edit(datasets=[{"source": "s3://team-a/other.jsonl"}]).settle()

    assert (world.status.phase, sorted(world.pods)) == ("Preflight", ["bot-preflight-2"])
    assert conditions(world)["Succeeded"] == "Unknown Examining"
    assert world.status.completion_time is None


def test_an_edit_after_the_plan_plans_again():
    """Preflight and plan rest on the spec: both are void."""
    world = a_planned_world(planOnly=True)

    world.edit(training={"epochs": 1}).settle()

    assert (world.status.plan, world.status.preflight, sorted(world.pods)) == (None, None, ["bot-preflight-2"])


def test_a_spec_that_breaks_a_rule_is_refused_before_anything_is_created():
    """What CEL cannot say, or an older CRD let through, is said in a condition."""
    world = a_world(training={"epochs": 1, "maxSteps": 10}).settle()

    assert (world.status.phase, world.created, conditions(world)["Accepted"]) == ("Failed", [], "False InvalidSpec")


def test_what_does_not_fit_is_said_before_a_gpu_is_asked_for():
    """The planner's own sentence, as terminal reason."""
    world = a_world(pool=a_pool(maxNodes=0)).settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()

    status, reason, message = world.condition("Succeeded")
    assert (status, reason, world.created) == ("False", "DoesNotFit", ["bot-preflight-1"])
    assert message
    assert world.condition("Planned") == ("False", "DoesNotFit", message)


def test_a_run_without_a_gpu_is_no_measure_of_the_plans_memory():
    """On a CPU the trainer reports its whole process; compared with a card it would look like a wrong plan."""
    world = a_training_world().end("bot-0-0", 0, replace(published(), peak_reserved_gib=None)).settle()

    assert (world.status.phase, world.status.memory) == ("Succeeded", None)


def a_world_that_does_not_fit() -> World:
    world = a_world(pool=a_pool(maxNodes=0)).settle()
    return world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()


def test_a_job_that_did_not_fit_is_planned_again_when_a_pool_can_hold_it():
    """The platform team adds nodes; the user need not touch the job."""
    world = a_world_that_does_not_fit()
    world.pools = (a_pool(),)
    world.settle()

    assert (world.status.phase, world.status.completion_time) == ("Planned", None)
    assert conditions(world)["Succeeded"].startswith("Unknown")
    assert world.status.plan is not None
    assert world.created[-1] == "bot-0-0"


def test_a_pool_that_is_too_small_as_well_changes_the_sentence():
    """The refusal names what there is now, and the job does not run."""
    world = a_world_that_does_not_fit()
    before = world.condition("Succeeded")[2]
    world.pools = (a_pool(maxNodes=1, gpusPerNode=1, gpuType="ACME-X9", memoryGiB="1"),)
    world.settle()

    status, reason, after = world.condition("Succeeded")
    assert (status, reason, world.status.plan) == ("False", "DoesNotFit", None)
    assert "ACME-X9 has 1.0" in after
    assert before != after


def test_the_same_pools_give_the_same_refusal_without_a_write():
    """A refusal that wrote itself anew in every pass would keep operator and API server busy for ever."""
    world = a_world_that_does_not_fit()
    ended, said = world.status.completion_time, world.condition("Succeeded")
    world.later(3600).settle()

    assert (world.status.completion_time, world.condition("Succeeded")) == (ended, said)


def test_a_job_that_failed_otherwise_is_not_planned_again():
    """Only the want of GPUs is mended by more of them."""
    world = a_world().settle()
    world.run("bot-preflight-1").end(
        "bot-preflight-1", 0, examined(model_config={"model_type": "rnn", "architectures": "R"})
    )
    world.settle()
    world.pools = (a_pool(maxNodes=8),)
    world.settle()

    assert world.condition("Succeeded")[:2] == ("False", "ModelUnsupported")


def test_a_model_that_cannot_be_sized_is_refused():
    """Preflight read a config.json of a family that the planner does not know."""
    world = a_world().settle()
    strange = examined(model_config={"model_type": "rnn", "architectures": "RNN"})
    world.run("bot-preflight-1").end("bot-preflight-1", 0, strange).settle()

    assert world.condition("Succeeded")[:2] == ("False", "ModelUnsupported")


def test_a_report_that_the_api_has_no_words_for_ends_the_job_with_a_reason():
    """Another version's preflight: the operator must neither crash nor wait for ever."""
    world = a_world().settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined(examples=-1)).settle()

    assert world.condition("Succeeded") == (
        "False",
        "ModelUnsupported",
        "the report of preflight cannot be read (examples: Input should be greater than or equal to 0): preflight image "
        "and operator must be of the same version",
    )


def test_an_artifact_that_the_api_has_no_words_for_does_not_hold_up_the_end():
    """The result is there all the same, and the message says where to look."""
    adapter = replace(published().artifacts[0], digest="x" * 100)
    world = a_training_world().end("bot-0-0", 0, published(artifacts=(adapter,))).settle()

    assert world.condition("Succeeded") == (
        "True",
        "Published",
        "published at s3://team-a/out; the trainer named no artifact: see its manifest there",
    )


def test_preflight_that_breaks_is_tried_again_and_then_given_up():
    """Three failures of the machinery; the pause doubles and is pinned before the Pod goes."""
    world = a_world().settle()
    pauses = []
    for _ in range(2):
        world.run("bot-preflight-1").end("bot-preflight-1", 1, a_failure("StorageUnavailable", "S3 does not answer"))
        world.settle()
        assert world.decision is not None
        pauses.append(world.decision.requeue_after)
        assert (world.pods, world.condition("Reconciling")[1]) == ({}, "BackOff")
        world.later(pauses[-1] or 0).settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 1, a_failure("StorageUnavailable", "S3 does not answer"))
    world.settle()

    assert pauses == [10, 20]
    assert world.condition("Succeeded") == (
        "False",
        "RetriesExhausted",
        "preflight failed 3 times (runPolicy.maxRetries is 3), the last time as StorageUnavailable: S3 does not answer",
    )


def test_a_preflight_pod_that_a_stranger_deletes_is_created_again():
    """It leaves nothing behind that would be in the way."""
    world = a_world().settle().vanish("bot-preflight-1").settle()

    assert world.created == ["bot-preflight-1", "bot-preflight-1"]


def test_samples_and_text_are_cut_to_what_the_schema_allows():
    """A model may answer without end."""
    result = published().evaluation
    assert result is not None
    long = replace(result, samples=tuple(Sample(prompt="p", base="b" * 9000, tuned="t") for _ in range(12)))
    world = a_training_world().end("bot-0-0", 0, published(evaluation=long)).settle()

    evaluation = world.status.evaluation
    assert evaluation is not None
    assert (len(evaluation.samples), len(evaluation.samples[0].base) <= 4096) == (8, True)


def test_figures_that_are_not_numbers_are_left_out():
    """A loss of NaN is no decimal of the API."""
    world = a_training_world().report(a_progress(3, loss=float("nan"), tokens_per_second=float("inf"))).settle()

    progress = world.status.progress
    assert progress is not None
    assert (progress.loss, progress.tokens_per_second) == (None, None)


def test_the_gate_decides_about_promotion():
    """An improvement of a quarter passes a gate of a fifth and fails one of a half."""
    verdicts = {}
    for least in ("0.2", "0.5"):
        world = a_training_world(evaluation={"gate": {"minRelativeLossImprovement": least}})
        assert world.condition("Promoted")[:2] == ("Unknown", "NotEvaluated")
        verdicts[least] = world.end("bot-0-0", 0, published()).settle().condition("Promoted")

    said = "held-out loss went from 2.0000 to 1.5000, an improvement of 0.2500; the gate asks for"
    assert verdicts == {"0.2": ("True", "GatePassed", f"{said} 0.2"), "0.5": ("False", "GateFailed", f"{said} 0.5")}


def test_events_tell_the_story_once():
    """One per change of phase or reason, one per attempt that ended, none for figures."""
    world = a_world()
    told: list[Event] = []

    def live(passes: int = 3) -> None:
        for _ in range(passes):
            told.extend(world.one_pass().events)

    live()
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined())
    live()
    world.run("bot-0-0")
    live()
    world.later(60).report(a_progress(10))
    live()
    world.end("bot-0-0", 0, published())
    live()

    assert [(event.type, event.reason) for event in told] == [
        ("Normal", "Examining"),
        ("Normal", "Starting"),
        ("Normal", "Running"),
        ("Normal", "Succeeded"),
        ("Normal", "Published"),
    ]
    assert told[3].message == "attempt 0 ended at step 169 (checkpoint 160): published"


def test_a_job_that_is_being_deleted_is_left_alone():
    """Owner references do the cleaning."""
    world = a_training_world()
    meta = world.job.metadata.model_copy(update={"deletion_timestamp": "2026-01-31T12:00:00Z"})
    world.job = world.job.model_copy(update={"metadata": meta})
    decision = world.vanish("bot-0-0").one_pass()

    assert (decision.status, decision.create, decision.delete) == (world.status, (), ())


def test_pods_and_service_are_freed_after_their_retention_and_the_job_after_its_own():
    """podRetentionSeconds 100, ttlSecondsAfterFinished 500."""
    policy = {"podRetentionSeconds": 100, "ttlSecondsAfterFinished": 500}
    world = a_training_world(resources={"gpus": 2}, runPolicy=policy)
    world.end("bot-0-0", 0, published()).end("bot-0-1", 0, published()).settle()
    kept = (sorted(world.pods), set(world.services), world.decision and world.decision.requeue_after)
    world.later(100).settle()
    freed = (
        sorted(world.pods),
        set(world.services),
        world.decision and world.decision.requeue_after,
        world.job_deleted,
    )
    world.later(400).settle()

    assert kept == (["bot-0-0", "bot-0-1", "bot-preflight-1"], {"bot-0"}, 100)
    assert freed == ([], set(), 400, False)
    assert world.job_deleted


def test_a_later_generation_of_an_ended_job_is_observed_and_nothing_else_changes():
    """Turning suspend on after the end starts nothing."""
    world = a_training_world().end("bot-0-0", 0, published()).settle()
    created = list(world.created)
    world.edit(suspend=True).settle()

    assert (world.status.phase, world.status.observed_generation, world.created) == ("Succeeded", 2, created)
    assert {item.observed_generation for item in world.status.conditions} == {2}


def test_an_outcome_with_exit_code_zero_and_no_words_is_not_a_success():
    """Without artifacts nobody knows what was published; the next attempt finds out."""
    world = a_training_world().end("bot-0-0", 0).settle()

    assert world.attempts[0].outcome == "TrainerError"
    assert world.attempts[0].message == "Pod bot-0-0 ended with exit code 0"
