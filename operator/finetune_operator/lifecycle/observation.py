"""What one pass sees and what it decides: frozen in, frozen out. controller/ makes the one and enacts the other."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from finetune_contract import Outcome, Progress

from finetune_operator.api.pools import GPUPool
from finetune_operator.api.reasons import WaitingReason
from finetune_operator.api.status import FineTuneJobStatus

Manifest = dict[str, Any]
"""One child as a plain dict, ready to create."""

Role = Literal["preflight", "trainer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPod:
    """One of our Pods, read from the API once per pass."""

    name: str
    uid: str
    role: Role
    owner_uid: str
    """uid of the FineTuneJob that owns it; a former owner of the same name has another one."""
    generation: int = 0
    """Preflight: the generation of the spec that it examines."""
    attempt: int = 0
    replica: int = 0
    phase: str = "Pending"
    """Pending | Running | Succeeded | Failed | Unknown"""
    deleting: bool = False
    delete_by: datetime | None = None
    """metadata.deletionTimestamp: a kubelet that is alive has ended the Pod by then."""
    gated: bool = False
    """Still has our scheduling gate."""
    created_at: datetime
    scheduled_at: datetime | None = None
    node_name: str = ""
    unschedulable: str = ""
    """The scheduler's message while it finds no node."""
    waiting_reason: str = ""
    """Of the container: ErrImagePull, ImagePullBackOff, CreateContainerConfigError ..."""
    waiting_message: str = ""
    finished_at: datetime | None = None
    exit_code: int | None = None
    terminated_reason: str = ""
    """Completed | Error | OOMKilled ..."""
    outcome: Outcome | None = None
    """The termination message, where it parses; the last lines of a log do not."""
    pod_reason: str = ""
    """status.reason of the Pod: Evicted, NodeLost, Preempting, UnexpectedAdmissionError ..."""
    pod_message: str = ""
    disruption: str = ""
    """Reason of a true DisruptionTarget condition: EvictionByEvictionAPI, DeletionByTaintManager ..."""

    @property
    def finished(self) -> bool:
        """All containers have ended."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The API server refused to create a child in an earlier pass."""

    reason: WaitingReason | Literal["NameConflict"]
    message: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything that a decision may look at, taken at one moment."""

    pods: tuple[SeenPod, ...] = ()
    services: tuple[str, ...] = ()
    """Names of our headless Services."""
    progress: Progress | None = None
    """Newest report in the log of replica 0 of the current attempt."""
    progress_at: datetime | None = None
    pools: tuple[GPUPool, ...] = ()
    refusal: Refusal | None = None
    checkpoints_of: str = ""
    """Name of another job that keeps its checkpoints where this one wants to."""
    settings: "Settings" = field(default_factory=lambda: Settings())  # noqa: PLW0108 - defined below


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the installation decides; pinned into status.plan before it shapes a Pod."""

    trainer_image: str = "finetune-trainer:dev"
    preflight_image: str = "finetune-preflight:dev"
    retry_back_off_seconds: int = 10
    """First back-off; doubled per attempt without progress, at most 10 minutes."""
    operator_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child to delete; the uid is the precondition."""

    kind: Literal["Pod", "Service"]
    name: str
    uid: str = ""
    grace_seconds: int | None = None
    """None: the Pod's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One sentence for `kubectl describe`."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to write, create, delete and say; in that order."""

    status: FineTuneJobStatus
    create: tuple[Manifest, ...] = ()
    """Created one after the other (Service first); a refusal stops the rest and is seen in the next pass."""
    ungate: tuple[str, ...] = ()
    """Pods whose scheduling gate is lifted."""
    delete: tuple[Child, ...] = ()
    delete_job: bool = False
    """ttlSecondsAfterFinished has passed."""
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    """Seconds until the next pass even if nothing happens; None: only on events."""
