"""What happens to jobs, told as stories that are played with and without faults. Called by theatre and test_faults_*."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.client import FINETUNE, STRATEGIC, Client, Raw, eventually
from tests.cluster.plays import POOL, Play, Script, preempted, training_fails, training_succeeds
from tests.cluster.standin import ended_state, now_text

SECONDS = 180
"""So long a story may take on a busy machine, faults included."""

GANG: Raw = {"resources": {"pools": [POOL], "gpus": 16}, "training": {"globalBatchSize": 16}}
SAVES = preempted(7)


@dataclass(frozen=True)
class Stage:
    """One job in one namespace, as a user sees it."""

    api: Client
    namespace: str
    name: str

    @property
    def path(self) -> str:
        return f"{FINETUNE}/namespaces/{self.namespace}/finetunejobs/{self.name}"

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def reaches(self, phase: str) -> None:
        """Wait for a phase; "" is a job that is gone."""

        def look() -> bool:
            job = self.api.find(self.path)
            return (job or {}).get("status", {}).get("phase", "") == phase if phase else job is None

        try:
            eventually(look, f"{self.name} is {phase or 'gone'}", SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {(self.api.find(self.path) or {}).get('status')}") from None

    def leaves_nothing(self) -> None:
        """Wait until the job and, by the garbage collector, its Pods are gone."""
        self.reaches("")
        mine = {"labelSelector": f"finetune.dev/job-name={self.name}"}
        eventually(lambda: self.api.items(self.pods, **mine) == [], f"the Pods of {self.name} are gone", SECONDS)

    def edit(self, **spec: Any) -> None:
        self.api.patch(self.path, {"spec": spec})


@dataclass(frozen=True)
class Story:
    """A job, what its Pods do, and what its user or the cluster does meanwhile."""

    name: str
    act: Callable[[Stage], None]
    script: Script = field(default_factory=dict)
    spec: Raw = field(default_factory=dict)
    unsaid: tuple[str, ...] = ()
    """Parts of the status that hold the last words of a Pod that is deleted: nobody heard them if no operator ran just then."""


def succeeds(stage: Stage) -> None:
    stage.reaches("Succeeded")


def is_suspended_and_resumed(stage: Stage) -> None:
    stage.reaches("Training")
    stage.edit(suspend=True)
    stage.reaches("Suspended")
    stage.edit(suspend=False)
    stage.reaches("Succeeded")


def is_evicted(stage: Stage) -> None:
    stage.reaches("Training")
    pod = f"{stage.name}-0-0"
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    stage.api.create(f"{stage.pods}/{pod}/eviction", eviction)
    stage.reaches("Succeeded")


def is_reclaimed(stage: Stage) -> None:
    """The node shuts down: its kubelet ends the Pod, which stays as it ended."""
    stage.reaches("Training")
    pod = f"{stage.pods}/{stage.name}-0-0"
    (container,) = stage.api.get(pod)["status"]["containerStatuses"]
    ended = container | {"ready": False, "started": False, "state": ended_state(SAVES, now_text())}
    reason = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "TerminationByKubelet",
        "message": "node shutdown",
    }
    status = {"phase": "Failed", "reason": "Terminated", "conditions": [reason], "containerStatuses": [ended]}
    stage.api.patch(f"{pod}/status", {"status": status}, STRATEGIC)
    stage.reaches("Succeeded")


def is_deleted(stage: Stage) -> None:
    stage.reaches("Training")
    stage.api.delete(stage.path, propagationPolicy="Foreground")
    stage.leaves_nothing()


def expires(stage: Stage) -> None:
    stage.leaves_nothing()


HOLDS: Script = {"0": Play(hold=True), "sigterm": SAVES}
LAST_WORDS = ("attempts", "checkpoint", "attemptsWithoutProgress", "memory")

STORIES = {
    story.name: story
    for story in (
        Story("told-succeeds", succeeds),
        Story("told-retries", succeeds, {"0": training_fails("TrainerError", "boom", checkpoint_step=10)}),
        Story("told-pauses", is_suspended_and_resumed, HOLDS, unsaid=LAST_WORDS),
        Story("told-evicted", is_evicted, HOLDS, unsaid=LAST_WORDS),
        Story("told-reclaimed", is_reclaimed, {"0": Play(hold=True)}),
        Story(
            "told-gang",
            succeeds,
            {
                "0/0": Play(hold=True),
                "0/1": training_fails(
                    "StorageUnavailable", "the bucket is away"
                ),  # a cause, whoever ends in the same second
                "sigterm": Play(exit_code=143),
                "1/0": training_succeeds(run_seconds=2),  # the last one to end: the others need not be deleted
            },
            GANG,
        ),
        Story("told-deleted", is_deleted, HOLDS, GANG),
        Story("told-expires", expires, {}, {"runPolicy": {"ttlSecondsAfterFinished": 0}}),
    )
}
