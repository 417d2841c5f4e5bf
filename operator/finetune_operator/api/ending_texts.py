"""What each end of an attempt and of a job means, as reason_texts does for the other reasons. Called by cli/generate_docs."""

from finetune_operator.api.reason_texts import NOTHING, ReasonText
from finetune_operator.api.reasons import AttemptOutcome, TerminalReason

CHECKPOINT = "Starts the next attempt from the last complete checkpoint."
UNCOUNTED = " This does not count against `maxRetries`; after 24 hours of nothing else the job fails."

ATTEMPT: dict[AttemptOutcome, ReasonText] = {
    AttemptOutcome.SUCCEEDED: ReasonText(
        "The attempt trained to the end and published.", NOTHING, "Ends the job as `Published`."
    ),
    AttemptOutcome.PREEMPTED: ReasonText(
        "The Pod was asked to stop (SIGTERM), or the scheduler gave its place to a Pod of higher priority.",
        "Nothing. A higher `priorityClassName` makes it rarer.",
        CHECKPOINT + UNCOUNTED,
    ),
    AttemptOutcome.SPOT_RECLAIMED: ReasonText("The cloud took a spot node back.", NOTHING, CHECKPOINT + UNCOUNTED),
    AttemptOutcome.EVICTED: ReasonText(
        "A drain, the eviction API or node pressure removed the Pod.", NOTHING, CHECKPOINT + UNCOUNTED
    ),
    AttemptOutcome.NODE_LOST: ReasonText(
        "The node stopped answering.", NOTHING, CHECKPOINT + " A node that is blamed twice is avoided." + UNCOUNTED
    ),
    AttemptOutcome.NODE_REFUSED: ReasonText(
        "The trainer's container did not start on the node: the kubelet refused the Pod, the runtime could not start the "
        "container, or another container of the Pod kept it from starting. The message says which.",
        "Nothing if another node takes the Pod. Otherwise repair what the message names.",
        "Avoids the node from then on and tries again after a pause that doubles, up to 10 minutes." + UNCOUNTED,
    ),
    AttemptOutcome.OUT_OF_MEMORY: ReasonText(
        "A GPU ran out of memory.",
        "Nothing at first. If the job ends as `DoesNotFit`, lower `training.sequenceLength` or use `qlora` or a larger GPU.",
        "Halves the micro batch, turns on activation checkpointing and tries again. The global batch stays the same.",
    ),
    AttemptOutcome.HOST_OUT_OF_MEMORY: ReasonText(
        "The Pod reached its memory limit (OOMKilled).",
        "If it happens again at the node's size, use a pool whose nodes have more memory.",
        "Gives the next attempt half as much memory again, at most what a node of the pool has.",
    ),
    AttemptOutcome.COMMUNICATION_TIMEOUT: ReasonText(
        "The processes lost each other.",
        "If it happens again, check the network between the nodes and any NetworkPolicy.",
        CHECKPOINT,
    ),
    AttemptOutcome.STALLED: ReasonText(
        "No step finished for too long. The stacks of the processes are in the log.",
        "If it happens again, read `finetune logs JOB`.",
        CHECKPOINT,
    ),
    AttemptOutcome.STORAGE_FULL: ReasonText(
        "No space was left for a checkpoint, the cache or the output.",
        "Make room on the volume or in the bucket.",
        "Gives the next attempt half as much local disk again, at most what a node of the pool has.",
    ),
    AttemptOutcome.STORAGE_UNAVAILABLE: ReasonText(
        "The bucket, hub or volume did not answer.", "Check that it is up and reachable from the Pod.", CHECKPOINT
    ),
    AttemptOutcome.TRAINER_ERROR: ReasonText(
        "The trainer failed with an error that it does not know. The message holds its last lines.",
        "Read `finetune logs JOB`.",
        CHECKPOINT,
    ),
    AttemptOutcome.KILLED: ReasonText(
        "The Pod was killed from outside, or deleted by somebody else.",
        "Find out who deletes Pods in this namespace.",
        CHECKPOINT,
    ),
    AttemptOutcome.SUSPENDED: ReasonText(
        "`spec.suspend`, the budget or the deadline stopped the attempt.",
        "Resume the job, or raise the limit.",
        "Waits.",
    ),
    AttemptOutcome.NOT_SCHEDULED: ReasonText(
        "Not all replicas found a node within the pool's `provisioningSeconds`.",
        "Free or add nodes of the pool.",
        "Gives the nodes back and tries again after a pause. This does not count against `maxRetries`.",
    ),
}

EXAMINES = "Preflight runs again as soon as the spec changes. After you change something else, delete the job and apply it again."

EXAMINES_BY_ITSELF = (
    "Runs preflight again as soon as the spec changes, and by itself for 24 hours (at least every 10 minutes). The job goes on when it "
    "succeeds."
)

TERMINAL: dict[TerminalReason, ReasonText] = {
    TerminalReason.PUBLISHED: ReasonText(
        "The result is at the destination.", "Use `status.adapterURI`.", "Deletes Pods after `podRetentionSeconds`."
    ),
    TerminalReason.ALREADY_PUBLISHED: ReasonText(
        "The same run (same settings, model revision and data) is complete at the destination. No GPU was used.",
        "Use `status.adapterURI`. For a new run, change the spec and the destination.",
        "Copies the result of the earlier run into the status.",
    ),
    TerminalReason.INVALID_SPEC: ReasonText(
        "The spec breaks a rule between its fields. The message names the field and the remedy.",
        "Change the field. `finetune plan -f job.yaml` finds most of these before you apply.",
        EXAMINES,
    ),
    TerminalReason.DOES_NOT_FIT: ReasonText(
        "No layout on any pool has enough memory, or the GPU ran out of memory with the smallest layout.",
        "Take one of the changes that the message lists. Each of them was planned before it was listed.",
        "Before the first attempt: plans again when the spec or a GPUPool changes. Afterwards: nothing.",
    ),
    TerminalReason.MODEL_NOT_FOUND: ReasonText(
        "There is no model, or no such revision, at `model.source`.",
        "Correct the source or the revision.",
        EXAMINES_BY_ITSELF,
    ),
    TerminalReason.MODEL_UNAUTHORIZED: ReasonText(
        "The hub or bucket refused the credentials for the model.",
        "Accept the model's licence on the hub, or correct the Secret that `model.credentials` names.",
        EXAMINES_BY_ITSELF,
    ),
    TerminalReason.MODEL_UNSUPPORTED: ReasonText(
        "The model cannot be sized, loaded or given an adapter. The message says what is missing.",
        "Choose a model of one of the types that the message lists.",
        EXAMINES,
    ),
    TerminalReason.DATASET_NOT_FOUND: ReasonText(
        "There is no file at `datasets[].source`, or no such split.", "Correct the source.", EXAMINES_BY_ITSELF
    ),
    TerminalReason.DATASET_UNAUTHORIZED: ReasonText(
        "The hub or bucket refused the credentials for the data.",
        "Correct the Secret that the data set names.",
        EXAMINES_BY_ITSELF,
    ),
    TerminalReason.DATASET_INVALID: ReasonText(
        "A row or a column is not as the format asks. The message names the file, the row and the column.",
        "Correct the rows, or set `format` and `columns`. `finetune data preview -f job.yaml` shows what the model will see.",
        EXAMINES_BY_ITSELF,
    ),
    TerminalReason.DATASET_TOO_SMALL: ReasonText(
        "Too few rows are left to train on or to evaluate with.",
        "Add rows, or change `evaluation`.",
        EXAMINES_BY_ITSELF,
    ),
    TerminalReason.DATASET_CHANGED: ReasonText(
        "The data changed after preflight, so the plan no longer belongs to it.",
        "Restore the data, or apply the job under a new name.",
        NOTHING,
    ),
    TerminalReason.OUTPUT_NOT_WRITABLE: ReasonText(
        "The destination of the output or of the checkpoints cannot be written to or deleted from.",
        "Give the credentials the right to write, list and delete there.",
        EXAMINES_BY_ITSELF,
    ),
    TerminalReason.OUTPUT_OCCUPIED: ReasonText(
        "Another job or another run owns the destination. The message names it.",
        "Choose another destination for this job.",
        "Never overwrites the result of another run.",
    ),
    TerminalReason.LOSS_DIVERGED: ReasonText(
        "The loss became NaN or infinite.",
        "Lower `training.learningRate`, check the data, and apply the job under a new name.",
        "Does not try again, and does not publish such weights.",
    ),
    TerminalReason.NO_ACCELERATOR: ReasonText(
        "The Pod sees no GPU.",
        "Check the driver and the device plugin of the pool's nodes, and `GPUPool.spec.resourceName`.",
        NOTHING,
    ),
    TerminalReason.NAME_CONFLICT: ReasonText(
        "A Pod or Service with the name that the job needs exists and belongs to somebody else.",
        "Delete that object, or give the job another name.",
        NOTHING,
    ),
    TerminalReason.RETRIES_EXHAUSTED: ReasonText(
        "`runPolicy.maxRetries` attempts in a row ended without a newer checkpoint.",
        "Read the message and `finetune logs JOB`, remove the cause, then delete the job and apply it again.",
        "A job that is applied again continues from its checkpoints. If it was preflight that failed, it runs again by itself for "
        "24 hours.",
    ),
}
