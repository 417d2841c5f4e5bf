"""The table of endings: what Kubernetes says about a Pod or container that has ended, and the outcome that it stands for.

Data only. Called by endings, which says in which order the rows are read; docs/reference/endings.md is made from it.
"""

from finetune_contract import ExitCode

from finetune_operator.api.reasons import AttemptOutcome, TerminalReason

DISRUPTIONS = {
    "PreemptionByScheduler": AttemptOutcome.PREEMPTED,
    "DeletionByTaintManager": AttemptOutcome.NODE_LOST,
    "EvictionByEvictionAPI": AttemptOutcome.EVICTED,
    "DeletionByPodGC": AttemptOutcome.NODE_LOST,
    "TerminationByKubelet": AttemptOutcome.EVICTED,
}
"""Reasons of a true DisruptionTarget condition (kubernetes.io, Pod disruption conditions)."""

POD_REASONS = {
    "Evicted": AttemptOutcome.EVICTED,
    "Preempting": AttemptOutcome.PREEMPTED,
    "NodeLost": AttemptOutcome.NODE_LOST,
    "NodeShutdown": AttemptOutcome.NODE_LOST,
    "Terminated": AttemptOutcome.NODE_LOST,
    "Shutdown": AttemptOutcome.NODE_LOST,
    "NodeAffinity": AttemptOutcome.NODE_REFUSED,
    "UnexpectedAdmissionError": AttemptOutcome.NODE_REFUSED,
    "DeadlineExceeded": AttemptOutcome.KILLED,
}
"""status.reason of a Pod whose container ran: the kubelet evicted, stopped or disowned it with it."""

TAKEN_AWAY = {"Preempting", "NodeLost", "NodeShutdown", "Terminated", "Shutdown"}
"""Reasons that say what became of the node even if no container ran. With any other reason the node refused the Pod."""

NEVER_STARTED = {"StartError", "ContainerCannotRun", "RunContainerError", "CreateContainerError"}
"""Reasons of a terminated container that the runtime could not start: it has an exit code and never ran."""

WRONG_PLATFORM = "exec format error"
"""Words of a container whose image was built for another processor. No other node of the kind would run it."""

LOST_CONTAINERS = {"ContainerStatusUnknown", "Unknown"}
"""Reasons of a terminated container that its node has lost: the kubelet's (exit code 137) and containerd's (255). The node, or its
container runtime, was restarted."""

FULL_DISK = ("ephemeral", "EmptyDir")
"""Words of the kubelet's message about a Pod that it evicted for its use of local disk: a node that is short of it, the
limit of a container or Pod, the sizeLimit of an emptyDir."""

SHORT_NODE = "The node was low on resource"
"""How the kubelet's message begins if the node itself is short of something. It goes on with the containers that use more than their
requests; one that is not named is not the cause."""

EXIT_CODES: dict[int, AttemptOutcome] = {
    ExitCode.PREEMPTED: AttemptOutcome.PREEMPTED,
    ExitCode.OUT_OF_MEMORY: AttemptOutcome.OUT_OF_MEMORY,
    137: AttemptOutcome.KILLED,
    143: AttemptOutcome.KILLED,
}

RECLAIMED = {
    AttemptOutcome.PREEMPTED,
    AttemptOutcome.NODE_LOST,
    AttemptOutcome.KILLED,
}
"""What the loss of a spot node looks like from here."""

NOT_THE_CLOUD = {"PreemptionByScheduler", "EvictionByEvictionAPI"}
"""Disruptions with a known author."""

NOT_THE_CLOUDS_REASONS = {"Preempting", "DeadlineExceeded"}
"""Pod reasons with a known author."""

CLUSTERS_FAULTS = {
    AttemptOutcome.NODE_REFUSED,
    AttemptOutcome.PREEMPTED,
    AttemptOutcome.SPOT_RECLAIMED,
    AttemptOutcome.EVICTED,
    AttemptOutcome.NODE_LOST,
}
"""Ends that the job has no part in. They do not count towards runPolicy.maxRetries; time bounds them."""

CAUSES: tuple[AttemptOutcome, ...] = (
    AttemptOutcome.OUT_OF_MEMORY,
    AttemptOutcome.HOST_OUT_OF_MEMORY,
    AttemptOutcome.STORAGE_FULL,
    AttemptOutcome.STORAGE_UNAVAILABLE,
    AttemptOutcome.SPOT_RECLAIMED,
    AttemptOutcome.NODE_LOST,
    AttemptOutcome.NODE_REFUSED,
    AttemptOutcome.EVICTED,
)
"""Ends that are never the consequence of another replica's end, the most telling first."""

CONSEQUENCES: tuple[AttemptOutcome, ...] = (
    AttemptOutcome.KILLED,
    AttemptOutcome.STALLED,
    AttemptOutcome.TRAINER_ERROR,
    AttemptOutcome.COMMUNICATION_TIMEOUT,
    AttemptOutcome.PREEMPTED,
    AttemptOutcome.NOT_SCHEDULED,
)
"""Ends that may follow from another one: among these the earliest counts."""

GAVE_UP = {AttemptOutcome.COMMUNICATION_TIMEOUT, AttemptOutcome.STALLED}
"""How replicas end that wait in vain for one that never started."""

BLAMES_NODE = {
    AttemptOutcome.NODE_REFUSED,
    AttemptOutcome.NODE_LOST,
    AttemptOutcome.KILLED,
    AttemptOutcome.HOST_OUT_OF_MEMORY,
    AttemptOutcome.COMMUNICATION_TIMEOUT,
    AttemptOutcome.STALLED,
    AttemptOutcome.STORAGE_FULL,
    AttemptOutcome.TRAINER_ERROR,
}
"""Ends that a broken node may have caused."""

MENDABLE = {
    TerminalReason.MODEL_NOT_FOUND,
    TerminalReason.MODEL_UNAUTHORIZED,
    TerminalReason.MODEL_INVALID,
    TerminalReason.DATASET_NOT_FOUND,
    TerminalReason.DATASET_UNAUTHORIZED,
    TerminalReason.DATASET_INVALID,
    TerminalReason.DATASET_TOO_SMALL,
    TerminalReason.OUTPUT_NOT_WRITABLE,
    TerminalReason.TRAINER_OUTDATED,
    TerminalReason.RETRIES_EXHAUSTED,
}
"""Ends of preflight that a Secret, a bucket, rows, an image or a service elsewhere may mend."""
