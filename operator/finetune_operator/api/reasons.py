"""Condition types and reasons. They are API: users script against them. Four enums of reasons, never mixed.

reason_texts.py says what each of them means, what a user does about it, and what the operator does by itself.
"""

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
    QUEUED = "Queued"
    TRAINING = "Training"
    PUBLISHING = "Publishing"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class WaitingReason(StrEnum):
    """Why it is not running yet; may pass by itself."""

    QUOTA_EXCEEDED = "QuotaExceeded"
    POD_REFUSED = "PodRefused"
    WRITE_FAILED = "WriteFailed"
    UNSCHEDULABLE = "Unschedulable"
    GATED = "Gated"
    CANNOT_START = "CannotStart"
    NODE_SILENT = "NodeSilent"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    WAITING_FOR_GANG = "WaitingForGang"
    BACK_OFF = "BackOff"
    BUDGET_EXCEEDED = "BudgetExceeded"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    POLICY_LIMIT = "PolicyLimit"
    QUEUED = "Queued"
    QUEUE_UNAVAILABLE = "QueueUnavailable"


class ProgressReason(StrEnum):
    """What goes on while nothing is wrong: reasons of conditions that are neither waiting nor at their end."""

    ACCEPTED = "Accepted"
    EXAMINING = "Examining"
    PREPARED = "Prepared"
    PLANNED = "Planned"
    PLAN_ONLY = "PlanOnly"
    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    PUBLISHING = "Publishing"
    EXPORTING = "Exporting"
    MERGING = "Merging"
    SUSPENDING = "Suspending"
    SUSPENDED = "Suspended"
    NOT_SUSPENDED = "NotSuspended"
    FINISHED = "Finished"
    DELETING = "Deleting"
    GATE_PASSED = "GatePassed"
    GATE_FAILED = "GateFailed"
    NOT_EVALUATED = "NotEvaluated"


class AttemptOutcome(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "Succeeded"
    PREEMPTED = "Preempted"
    SPOT_RECLAIMED = "SpotReclaimed"
    EVICTED = "Evicted"
    NODE_LOST = "NodeLost"
    NODE_REFUSED = "NodeRefused"
    OUT_OF_MEMORY = "OutOfMemory"
    HOST_OUT_OF_MEMORY = "HostOutOfMemory"
    COMMUNICATION_TIMEOUT = "CommunicationTimeout"
    STALLED = "Stalled"
    STORAGE_FULL = "StorageFull"
    STORAGE_UNAVAILABLE = "StorageUnavailable"
    TRAINER_ERROR = "TrainerError"
    KILLED = "Killed"
    SUSPENDED = "Suspended"
    NOT_SCHEDULED = "NotScheduled"


class TerminalReason(StrEnum):
    """How the job ended."""

    PUBLISHED = "Published"
    ALREADY_PUBLISHED = "AlreadyPublished"
    INVALID_SPEC = "InvalidSpec"
    DOES_NOT_FIT = "DoesNotFit"
    POLICY_VIOLATION = "PolicyViolation"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_UNAUTHORIZED = "ModelUnauthorized"
    MODEL_UNSUPPORTED = "ModelUnsupported"
    MODEL_INVALID = "ModelInvalid"
    DATASET_NOT_FOUND = "DatasetNotFound"
    DATASET_UNAUTHORIZED = "DatasetUnauthorized"
    DATASET_INVALID = "DatasetInvalid"
    DATASET_TOO_SMALL = "DatasetTooSmall"
    DATASET_CHANGED = "DatasetChanged"
    OUTPUT_NOT_WRITABLE = "OutputNotWritable"
    OUTPUT_OCCUPIED = "OutputOccupied"
    LOSS_DIVERGED = "LossDiverged"
    NO_ACCELERATOR = "NoAccelerator"
    TRAINER_OUTDATED = "TrainerOutdated"
    PUBLISH_FAILED = "PublishFailed"
    EXPORT_FAILED = "ExportFailed"
    MERGE_FAILED = "MergeFailed"
    NAME_CONFLICT = "NameConflict"
    PLAN_LOST = "PlanLost"
    RETRIES_EXHAUSTED = "RetriesExhausted"
