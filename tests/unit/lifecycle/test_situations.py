"""Decisions in a cluster where others act too: sidecars, finalizers, gates, failing writes, things that arrive late."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from finetune_operator.lifecycle.decide import decide
from finetune_operator.lifecycle.observation import FailedWrite, SeenPod
from finetune_operator.manifests import names

from tests.unit.lifecycle.lifecycle_builders import a_failure, examined, published
from tests.unit.lifecycle.world import World, a_planned_world, a_training_world, a_world


def hindered(world: World, times: int) -> tuple[str, str]:
    """Return reason and message of a pass after so many failed writes."""
    failed = FailedWrite(what="delete Pod bot-0-0", message="denied by policy", times=times)
    decision = decide(world.job, replace(world.observe(), failed_write=failed), world.now)
    found = next(item for item in decision.status.conditions if item.type == "Reconciling")
    return found.reason, found.message


def test_a_pod_whose_sidecar_runs_on_is_deleted_once_its_end_is_recorded():
    """The job has succeeded; nothing holds the GPU."""
    world = a_training_world().end("bot-0-0", 0, published(), lingers=True).settle()

    assert (world.status.phase, world.attempts[0].outcome) == ("Succeeded", "Succeeded")
    assert (world.deleted, list(world.pods)) == (["bot-0-0"], ["bot-preflight-1"])


def test_a_preflight_whose_sidecar_runs_on_keeps_its_reason_through_the_pause():
    """The Pod is deleted at once, and why it failed is said until the next try."""
    world = a_world().settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 1, a_failure("StorageUnavailable", "no answer"), lingers=True)
    world.settle().later(5).settle()

    assert "bot-preflight-1" in world.deleted
    assert world.condition("Reconciling")[1:] == (
        "BackOff",
        "preflight failed (StorageUnavailable: no answer) and is retried at 2026-01-31T12:00:10Z",
    )


def test_pods_that_something_deletes_are_created_after_a_pause_that_doubles():
    """Ten seconds after the first time, twenty after the second, from when the last one was created; with its number."""
    world = a_planned_world()
    pod = world.pods.pop("bot-0-0")

    assert created_at(world, pod) == (world.now + timedelta(seconds=10), "once")
    assert created_at(world, pod, replace(pod, uid="second")) == (world.now + timedelta(seconds=20), "2 times")
    assert created_at(world.later(10), pod) is None


def created_at(world: World, *taken: SeenPod) -> tuple[datetime, str] | None:
    """Return when a trainer is created that was deleted, and how often that is said to have been; None where it is now."""
    decision = decide(world.job, replace(world.observe(), taken=taken), world.now)
    if decision.create:
        return None
    found = next(item for item in decision.status.conditions if item.type == "Reconciling")
    often = re.fullmatch(
        r"attempt 1: Pod bot-0-0 was deleted (.*) before it finished: find out what deletes Pods in this namespace; "
        r"it is created again at 2026-01-31T12:0\d:\d\dZ",
        found.message,
    )
    assert often is not None, found.message
    assert decision.requeue_after is not None
    return world.now + timedelta(seconds=decision.requeue_after), often[1]


def test_one_failed_write_is_chance_and_two_are_told():
    """With the server's words, and what would be said otherwise."""
    world = a_training_world()

    assert hindered(world, 1)[0] == "Running"
    assert hindered(world, 2) == (
        "WriteFailed",
        "cannot delete Pod bot-0-0: denied by policy (in the meantime: attempt 1 is running: lora on 1 x H100-80GB-HBM3)",
    )


def test_a_deleted_job_gives_its_pods_back_while_a_finalizer_holds_it():
    """Nothing is created any more."""
    world = a_training_world()
    gone = {"deletion_timestamp": "2026-01-31T12:00:00Z", "finalizers": ["example.com/meter"]}
    world.job = world.job.model_copy(update={"metadata": world.job.metadata.model_copy(update=gone)})
    world.settle().end("bot-0-0", 143).reap().settle()

    assert world.pods == {name: pod for name, pod in world.pods.items() if pod.role == "preflight"}
    assert world.created == ["bot-preflight-1", "bot-0-0"]
    assert world.condition("Reconciling") == (
        "True",
        "Deleting",
        "the job is being deleted and its Pods stop; finalizers that hold it: example.com/meter",
    )


def test_the_service_of_a_running_gang_is_created_again():
    """The replicas run on."""
    world = a_training_world(resources={"gpus": 2})
    world.services.clear()

    decision = world.one_pass()

    assert [item["metadata"]["name"] for item in decision.create] == ["bot-0"]
    assert world.condition("Reconciling")[1] == "Running"


@pytest.mark.parametrize(
    ("parts", "reason", "message"),
    [
        ({"other_gates": ("kueue.x-k8s.io/admission",)}, "Gated",
         "attempt 1: Pod bot-0-0 is held by the scheduling gate kueue.x-k8s.io/admission, which the operator did not set"),
        ({"warning": "FailedMount: secret not found", "node_name": "n"}, "CannotStart",
         "attempt 1: Pod bot-0-0 cannot start yet: FailedMount: secret not found"),
        ({"unschedulable": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", "autoscaler": "pod didn't trigger scale-up: "
          "1 max node group size reached"}, "Unschedulable", "attempt 1: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu; "
         "the autoscaler says: pod didn't trigger scale-up: 1 max node group size reached"),
        ({"waiting_reason": "ErrImagePull", "waiting_container": "istio-proxy"}, "ImagePullFailed",
         "attempt 1: container istio-proxy of Pod bot-0-0: ErrImagePull"),
    ],
    ids=["gate", "Event", "autoscaler", "sidecar"],
)  # fmt: skip
def test_why_a_pod_waits(parts: dict[str, Any], reason: str, message: str):
    """Whoever it is that holds it is named."""
    world = a_planned_world().change("bot-0-0", **parts).settle()

    assert world.condition("Reconciling")[1:] == (reason, message)


@pytest.mark.parametrize(("parts", "reason"), [({"node_silent": True}, "NodeSilent"), ({"deleting": True}, "Stopping")])
def test_pods_that_cannot_be_counted_on_are_not_ready(parts: dict[str, Any], reason: str):
    """Training goes on as far as anybody knows."""
    world = a_training_world().change("bot-0-0", **parts).settle()

    assert (world.status.phase, world.conditions["PodsReady"]) == ("Training", f"False {reason}")


def test_a_suspension_remembers_why_the_attempt_never_started():
    """When the Pod is gone nobody else can tell."""
    world = a_planned_world().change("bot-0-0", waiting_reason="ImagePullBackOff", waiting_message="gone").settle()
    world.edit(suspend=True).settle()

    assert world.attempts[0].message == "suspended before it started: Pod bot-0-0: ImagePullBackOff: gone"
    assert world.condition("Suspended")[2].endswith("; attempt 1 was " + (world.attempts[0].message or ""))


def test_what_arrives_late_is_found_and_the_job_goes_on():
    """Preflight runs again by itself: the job stays failed until it succeeds, then it is planned and trained."""
    world = a_world().settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 87, a_failure("DatasetNotFound", "no file")).settle()
    assert (world.status.phase, world.decision and world.decision.requeue_after) == ("Failed", 30)

    world.later(30).settle()
    assert (world.status.phase, world.created) == ("Failed", ["bot-preflight-1"] * 2)
    world.run("bot-preflight-1").end("bot-preflight-1", 0, examined()).settle()

    assert world.status.phase == "Planned"
    assert names.trainer_pod_name("bot", 0, 0) in world.created


def test_what_never_arrives_is_looked_for_a_day():
    """Every ten minutes at the end; then the job stays as it is."""
    world = a_world().settle()
    world.run("bot-preflight-1").end("bot-preflight-1", 87, a_failure("DatasetNotFound", "no file")).settle()
    tries = 0
    while world.decision is not None and world.decision.requeue_after is not None and tries < 1000:
        world.later(world.decision.requeue_after).settle()
        if "bot-preflight-1" in world.pods and not world.pods["bot-preflight-1"].finished:
            tries += 1
            world.run("bot-preflight-1").end("bot-preflight-1", 87, a_failure("DatasetNotFound", "no file")).settle()

    assert (world.status.phase, world.conditions["Succeeded"]) == ("Failed", "False DatasetNotFound")
    assert 140 <= tries <= 160
