"""The way from the first sight of a job to its published adapter, and what is never done on it."""

from typing import Any

import pytest
from finetune_operator.api.meta import FieldManager
from finetune_operator.api.published import EvaluationStatus, MemoryStatus
from finetune_operator.api.status import AttemptStatus, CheckpointStatus, CostStatus, ProgressStatus
from finetune_operator.lifecycle.observation import Event

from tests.unit.lifecycle.lifecycle_builders import a_preemption, a_progress, examined, published
from tests.unit.lifecycle.world import a_planned_world, a_training_world, a_world

ATTEMPT: dict[str, Any] = {
    "number": 0, "start_time": "2026-01-31T12:00:00Z", "running_time": "2026-01-31T12:00:00Z", "node_names": ["node-1"],
}  # fmt: skip


def test_on_first_sight_the_conditions_that_count_are_there_and_preflight_starts():
    """A tool that waits must not take a job without conditions for one that is done."""
    world = a_world()
    world.one_pass()

    assert world.conditions == {
        "Planned": "Unknown Examining",
        "PodsReady": "False Examining",
        "Reconciling": "True Examining",
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
        ("True", "Starting", "creating 1 Pod for attempt 1"),
    )


def test_a_running_job_is_current_and_not_yet_successful():
    """kstatus calls a job Current once all its Pods run, and not before."""
    world = a_planned_world()
    assert world.condition("Reconciling")[0] == "True"

    world.run("bot-0-0").settle()

    assert world.status.phase == "Training"
    assert world.condition("Reconciling") == ("False", "Running", "attempt 1 is running: lora on 1 x H100-80GB-HBM3")
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
    assert world.conditions == {"Planned": "True Planned", "Succeeded": "True Published"}
    assert status.evaluation == EvaluationStatus(
        examples=200, base_loss="2.0000", tuned_loss="1.5000", relative_improvement="0.2500"
    )
    assert status.cost == CostStatus(gpu_hours="0.1694", cost_usd="0.61")
    assert status.memory == MemoryStatus(
        predicted_gib="11.48", measured_gib="12.50", reserved_gib="14.00", loading_gib="9.50"
    )
    assert status.completion_time == "2026-01-31T12:10:10Z"
    assert status.progress == ProgressStatus(
        step=169, total_steps=169, percent=100, epoch="0.00", loss="1.2500", eval_loss="1.5000"
    )
    assert [(each.outcome, each.message, each.last_step) for each in world.attempts] == [("Succeeded", None, 169)]
    assert [item.digest for item in status.artifacts] == ["sha256:" + "e" * 64]


def test_publishing_has_a_phase_of_its_own():
    """The trainer says when it has stopped training."""
    world = a_training_world().report(a_progress(169, phase="publishing")).settle()

    assert (world.status.phase, world.condition("Reconciling")[1]) == ("Publishing", "Publishing")


def test_a_run_that_is_published_already_ends_without_a_gpu():
    """Applying a finished job again costs nothing, and its adapter is found again."""
    world = a_world().settle()
    found = published(reason="AlreadyPublished", message="this run is already complete at s3://team-a/out", step=0)
    world.run("bot-preflight-1").end("bot-preflight-1", 0, found).settle()

    assert world.created == ["bot-preflight-1"]
    assert world.status.attempts is None
    assert world.condition("Succeeded") == (
        "True", "AlreadyPublished", "this run is already complete at s3://team-a/out",
    )  # fmt: skip
    assert world.status.adapter_uri == "s3://team-a/out/adapter"
    assert world.status.cost == CostStatus(cost_usd="0.00")


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
        ("Normal", "Published"),
    ]
    assert told[3].message == "published at s3://team-a/out/adapter"


def test_an_attempt_that_ended_without_a_result_is_told():
    """Where it stopped, and what the next one resumes from."""
    world = a_training_world()
    world.end("bot-0-0", 85, a_preemption(80, 60))

    told = world.one_pass().events[0]

    assert (told.type, told.reason) == ("Warning", "Preempted")
    assert told.message.startswith("attempt 1 stopped at step 80 (latest checkpoint: step 60): ")


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


@pytest.mark.parametrize(
    ("manager", "tool"),
    [("argocd-controller", "Argo CD"), ("kustomize-controller", "Flux"), ("helm-controller", "Flux")],
)
def test_a_job_that_is_kept_in_git_is_not_deleted(manager: str, tool: str):
    """The tool would create it again, and it would run again, endlessly. Its Pods go after their retention all the same."""
    world = a_training_world(runPolicy={"podRetentionSeconds": 100, "ttlSecondsAfterFinished": 500})
    managers = [FieldManager(manager="finetune-operator"), FieldManager(manager=manager)]
    meta = world.job.metadata.model_copy(update={"managed_fields": managers})
    world.job = world.job.model_copy(update={"metadata": meta})
    world.end("bot-0-0", 0, published()).settle().later(1000).settle()

    assert (world.job_deleted, world.pods, world.decision and world.decision.requeue_after) == (False, {}, None)
    assert {item.message for item in world.status.conditions if item.type == "Succeeded"} == {
        "published at s3://team-a/out/adapter; ttlSecondsAfterFinished is ignored, because "
        f"{tool} would create the job again: remove it from git instead"
    }


def test_a_later_generation_of_an_ended_job_is_observed_and_nothing_else_changes():
    """Turning suspend on after the end starts nothing."""
    world = a_training_world().end("bot-0-0", 0, published()).settle()
    created = list(world.created)
    world.edit(suspend=True).settle()

    assert (world.status.phase, world.status.observed_generation, world.created) == ("Succeeded", 2, created)
    assert {item.observed_generation for item in world.status.conditions} == {None}
