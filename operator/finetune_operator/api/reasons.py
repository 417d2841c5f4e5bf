"""Condition types and reasons. They are API: users script against them. Three enums of reasons, never mixed."""

from enum import StrEnum


class ConditionType(StrEnum):
    """The conditions of a FineTuneJob."""

    ACCEPTED = "Accepted"
    PLANNED = "Planned"
    PODS_READY = "PodsReady"
    SUSPENDED = "Suspended"
    PROMOTED = "Promoted"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SUCCEEDED = "Succeeded"


class Phase(StrEnum):
    """One word for `kubectl get`; derived from the conditions, never read back."""

    PENDING = "Pending"
    PREFLIGHT = "Preflight"
    PLANNED = "Planned"
    TRAINING = "Training"
    PUBLISHING = "Publishing"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class WaitingReason(StrEnum):
    """Why it is not running yet; may pass by itself."""

    QUOTA_EXCEEDED = "QuotaExceeded"  # the namespace's ResourceQuota refused a Pod
    POD_REFUSED = "PodRefused"  # admission, Pod security or RBAC refused a Pod; the message says which rule
    UNSCHEDULABLE = "Unschedulable"  # no node can take a Pod now
    IMAGE_PULL_FAILED = "ImagePullFailed"  # the kubelet cannot get the image
    WAITING_FOR_GANG = "WaitingForGang"  # some replicas are not scheduled yet
    BACK_OFF = "BackOff"  # the last attempt failed; the next one starts soon
    BUDGET_EXCEEDED = "BudgetExceeded"  # the money is spent; raise runPolicy.budget to go on
    DEADLINE_EXCEEDED = "DeadlineExceeded"  # the running time is used up; raise activeDeadlineSeconds to go on


class ProgressReason(StrEnum):
    """What goes on while nothing is wrong: reasons of conditions that are neither waiting nor at their end."""

    ACCEPTED = "Accepted"  # every rule of the API holds
    EXAMINING = "Examining"  # the preflight Pod looks at model, data and output
    PREPARED = "Prepared"  # preflight found nothing wrong; its outcome, not a condition: planning follows at once
    PLANNED = "Planned"  # the layout is chosen and pinned
    PLAN_ONLY = "PlanOnly"  # spec.planOnly: nothing more happens until it is set to false
    STARTING = "Starting"  # Pods are being created, scheduled or started
    RUNNING = "Running"  # all Pods of the attempt run
    PUBLISHING = "Publishing"  # the result is being written
    SUSPENDING = "Suspending"  # the trainer saves a checkpoint and gives back its GPUs
    SUSPENDED = "Suspended"  # spec.suspend: set it to false to go on
    NOT_SUSPENDED = "NotSuspended"
    FINISHED = "Finished"  # no Pod of this job runs any more
    GATE_PASSED = "GatePassed"  # the tuned model is as much better as evaluation.gate asks
    GATE_FAILED = "GateFailed"  # it is not
    NOT_EVALUATED = "NotEvaluated"  # nothing was measured yet, or the base model never was


class AttemptOutcome(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "Succeeded"
    PREEMPTED = "Preempted"  # SIGTERM came, the checkpoint was saved
    SPOT_RECLAIMED = "SpotReclaimed"  # as Preempted, in a pool of capacity spot
    EVICTED = "Evicted"  # the eviction API, a drain, node pressure
    NODE_LOST = "NodeLost"  # the node stopped answering, or the Pod vanished with it
    OUT_OF_MEMORY = "OutOfMemory"  # GPU memory
    HOST_OUT_OF_MEMORY = "HostOutOfMemory"  # the kubelet's OOMKilled
    COMMUNICATION_TIMEOUT = "CommunicationTimeout"  # the replicas lost each other
    STALLED = "Stalled"  # no step for too long; the stacks are in the log
    STORAGE_FULL = "StorageFull"  # no space left for checkpoint, cache or output
    STORAGE_UNAVAILABLE = "StorageUnavailable"  # bucket, hub or volume does not answer
    TRAINER_ERROR = "TrainerError"  # an exception nobody foresaw; the message has its last lines
    KILLED = "Killed"  # SIGKILL from outside, or the Pod was deleted by someone else
    SUSPENDED = "Suspended"  # spec.suspend, the budget or the deadline
    NOT_SCHEDULED = "NotScheduled"  # not all replicas found a node within the pool's provisioningSeconds


class TerminalReason(StrEnum):
    """How the job ended."""

    PUBLISHED = "Published"
    ALREADY_PUBLISHED = "AlreadyPublished"  # the same run is complete at the destination: no GPU was used
    INVALID_SPEC = "InvalidSpec"
    DOES_NOT_FIT = "DoesNotFit"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_UNAUTHORIZED = "ModelUnauthorized"
    MODEL_UNSUPPORTED = "ModelUnsupported"  # a whole model, of a kind that cannot be trained: choose another
    MODEL_INVALID = "ModelInvalid"  # files that are damaged, incomplete or contradict each other: mend them
    DATASET_NOT_FOUND = "DatasetNotFound"
    DATASET_UNAUTHORIZED = "DatasetUnauthorized"
    DATASET_INVALID = "DatasetInvalid"
    DATASET_TOO_SMALL = "DatasetTooSmall"
    DATASET_CHANGED = "DatasetChanged"
    OUTPUT_NOT_WRITABLE = "OutputNotWritable"
    OUTPUT_OCCUPIED = "OutputOccupied"
    LOSS_DIVERGED = "LossDiverged"
    NO_ACCELERATOR = "NoAccelerator"
    NAME_CONFLICT = "NameConflict"
    RETRIES_EXHAUSTED = "RetriesExhausted"
