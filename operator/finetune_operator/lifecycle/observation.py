"""What one pass sees and what it decides: frozen in, frozen out. controller/ makes the one and enacts the other."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from finetune_contract import Outcome, Progress

from finetune_operator.api.pod_settings import PodSettings
from finetune_operator.api.policies import FineTunePolicy
from finetune_operator.api.pools import GPUPool
from finetune_operator.api.reasons import WaitingReason
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.manifests.names import Role
from finetune_operator.planning.layouts import GPU_PUBLISH_SECONDS
from finetune_operator.planning.quota import UNLIMITED, NamespaceLimits

DEFAULT_PODS = PodSettings()

Manifest = dict[str, Any]
"""One child as a plain dict, ready to create."""


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
    """Pending | Running | Succeeded | Failed | Unknown: that of our container, as soon as it has a status of its own"""
    deleting: bool = False
    delete_by: datetime | None = None
    """metadata.deletionTimestamp: a kubelet that is alive has ended the Pod by then."""
    finalizers: tuple[str, ...] = ()
    """Of others: they keep a deleted Pod, and with it its name."""
    gated: bool = False
    """Still has our scheduling gate."""
    other_gates: tuple[str, ...] = ()
    """Scheduling gates that somebody else has put on it."""
    created_at: datetime
    scheduled_at: datetime | None = None
    node_name: str = ""
    taken_in: bool = False
    """The kubelet of its node has begun with it."""
    node_silent: bool = False
    """The Pod's node does not answer: nobody knows whether the container runs on."""
    ignored_by: str = ""
    """The scheduler that has not looked at the Pod yet; empty once it has, and while a gate holds the Pod."""
    unschedulable: str = ""
    """The scheduler's message while it finds no node."""
    waiting_reason: str = ""
    """Of our container, or of one that holds it back: ErrImagePull, ImagePullBackOff, CreateContainerConfigError ..."""
    waiting_message: str = ""
    waiting_container: str = ""
    """Name of the container that holds ours back; empty where ours waits by itself."""
    warning: str = ""
    """About a Pod that has waited for a while: reason and note of its newest Warning Event, or that its node does not begin."""
    autoscaler: str = ""
    """What an autoscaler has said last about a Pod that has waited for a while."""
    never_ran: bool = False
    """The Pod has ended, and our container never ran."""
    culprit: str = ""
    """What another container did that kept ours from running."""
    lingers: bool = False
    """Our container has ended, and others of the Pod run on."""
    finished_at: datetime | None = None
    exit_code: int | None = None
    terminated_reason: str = ""
    """Completed | Error | OOMKilled ..."""
    termination_message: str = ""
    """What the container said last; outcome where it parses."""
    outcome: Outcome | None = None
    """The termination message, where it parses; the last lines of a log do not."""
    pod_reason: str = ""
    """status.reason of the Pod: Evicted, NodeLost, Preempting, UnexpectedAdmissionError ..."""
    pod_message: str = ""
    disruption: str = ""
    """Reason of a true DisruptionTarget condition: EvictionByEvictionAPI, DeletionByTaintManager ..."""

    @property
    def finished(self) -> bool:
        """Our container has ended, or never will run."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def kept(self) -> bool:
        """It is deleted, nothing of it runs, and only finalizers of others keep it."""
        return self.deleting and bool(self.finalizers) and (self.finished or not self.node_name)

    @property
    def held_by(self) -> str:
        """Say whose word is missing before a deleted Pod is gone."""
        return f"finalizers that hold it: {', '.join(self.finalizers)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The API server refused to create a child in an earlier pass."""

    reason: WaitingReason | Literal["NameConflict"]
    message: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedWrite:
    """What the API server has not let us do in the passes before this one, the last of them included."""

    what: str
    """Such as: delete Pod bot-0-0."""
    message: str
    """The server's words."""
    times: int = 1

    @property
    def sentence(self) -> str:
        """Say what does not work."""
        return f"cannot {self.what}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenWorkload:
    """A Workload of the job, as Kueue has it."""

    name: str
    uid: str
    attempt: int
    admitted: bool = False
    """Its quota is reserved and all checks have passed."""
    evicted: str = ""
    """Why Kueue wants the quota back."""
    priority_class: str = ""
    """Name of the class that its priority comes from."""
    active: bool = True
    """False where somebody has deactivated it."""
    finished: bool = False
    pending: str = ""
    """Why it is not admitted yet, in Kueue's words."""
    position: int = 0
    """Place in its ClusterQueue, counted from 1; 0 where Kueue does not tell."""
    node_labels: tuple[tuple[str, str], ...] = ()
    """Labels of the nodes of its flavors."""
    tolerations: tuple[tuple[tuple[str, Any], ...], ...] = ()
    """Tolerations of its flavors, each as its fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What is seen of Kueue by a job that has a queue."""

    read: bool = False
    """The Workloads were looked at in this pass."""
    unavailable: str = ""
    """Why there is no Kueue."""
    workloads: tuple[SeenWorkload, ...] = ()
    lost: bool = False
    """There has been none for a while, though Kueue is there."""


NO_QUEUE = Queue()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPodGroup:
    """A PodGroup of the job, for another scheduler."""

    name: str
    uid: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """The namespace as its FineTunePolicy counts it."""

    policy: FineTunePolicy
    spent_usd: Decimal = Decimal(0)
    """Cost of all its jobs in this month, this one and deleted ones included."""
    running: tuple[tuple[str, int], ...] = ()
    """The other jobs that run, by name, with their GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything that a decision may look at, taken at one moment."""

    pods: tuple[SeenPod, ...] = ()
    taken: tuple[SeenPod, ...] = ()
    """Pods that others have deleted before they had ended, as they were last seen; those of the last minutes or hours."""
    services: tuple[str, ...] = ()
    """Names of our headless Services."""
    progress: Progress | None = None
    """Newest report in the log of replica 0 of the current attempt."""
    progress_at: datetime | None = None
    pools: tuple[GPUPool, ...] = ()
    limits: NamespaceLimits = UNLIMITED
    """What the namespace's quotas let the job have."""
    team: Team | None = None
    """The namespace's policy and what its jobs use; None where there is no policy."""
    queue: Queue = NO_QUEUE
    pod_groups: tuple[SeenPodGroup, ...] = ()
    """Those of all attempts; none where the pool asks for none."""
    refusal: Refusal | None = None
    failed_write: FailedWrite | None = None
    checkpoints_of: str = ""
    """Name of another job that keeps its checkpoints where this one wants to."""
    settings: "Settings" = field(default_factory=lambda: Settings())  # noqa: PLW0108 - defined below


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the installation decides; pinned into status.plan before it shapes a Pod."""

    trainer_image: str = "finetune-trainer:dev"
    preflight_image: str = "finetune-preflight:dev"
    pods: PodSettings = DEFAULT_PODS
    retry_back_off_seconds: int = 10
    """First back-off; doubled per attempt without progress, at most 10 minutes."""
    gpu_publish_seconds: int = GPU_PUBLISH_SECONDS
    """Longest time that the GPUs of a full fine-tune wait for its upload; a model that takes longer is published by a Pod without GPUs."""
    operator_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child to delete; the uid is the precondition."""

    kind: Literal["Pod", "Service", "Workload", "PodGroup"]
    name: str
    uid: str = ""
    grace_seconds: int | None = None
    """None: the Pod's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """A Workload whose job has ended."""

    name: str
    reason: Literal["Succeeded", "Failed"]
    message: str


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
    finish: tuple[Finish, ...] = ()
    """Workloads whose job has ended."""
    delete_job: bool = False
    """ttlSecondsAfterFinished has passed."""
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    """Seconds until the next pass even if nothing happens; None: only on events."""
