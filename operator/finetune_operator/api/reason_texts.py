"""What each reason means, what a user does about it, and what the operator does by itself: the text of docs/reference/reasons.md.

One entry for each value of the enums in reasons.py; a test holds it. Called by cli/generate_docs.
"""

from typing import NamedTuple

from finetune_operator.api.reasons import AttemptOutcome, ProgressReason, TerminalReason, WaitingReason


class ReasonText(NamedTuple):
    """One row of the reference."""

    means: str
    you: str
    """What the user does. "Nothing." where nobody has to act."""
    operator: str
    """What happens without anybody's help."""


NOTHING = "Nothing."

PROGRESS: dict[ProgressReason, ReasonText] = {
    ProgressReason.ACCEPTED: ReasonText("The spec keeps every rule of the API.", NOTHING, "Starts preflight."),
    ProgressReason.EXAMINING: ReasonText(
        "The preflight Pod checks the model, the data and the output.",
        "Nothing. `finetune logs JOB --preflight` shows its log.",
        "Plans the job when the Pod succeeds.",
    ),
    ProgressReason.PREPARED: ReasonText("Preflight found nothing wrong.", NOTHING, "Plans the job immediately."),
    ProgressReason.PLANNED: ReasonText(
        "The layout is chosen and pinned in `status.plan`.", NOTHING, "Starts attempt 1."
    ),
    ProgressReason.PLAN_ONLY: ReasonText(
        "`spec.planOnly` is true and the plan is ready.",
        "Read `status.plan`, then set `spec.planOnly: false` to run the job.",
        "Waits. No GPU is used.",
    ),
    ProgressReason.STARTING: ReasonText(
        "Pods are being created, scheduled or started.", NOTHING, "Starts training when all Pods run."
    ),
    ProgressReason.RUNNING: ReasonText(
        "All Pods of the attempt run.", NOTHING, "Copies progress from the log of replica 0 into the status."
    ),
    ProgressReason.PUBLISHING: ReasonText(
        "Training is complete and the result is being uploaded.",
        NOTHING,
        "Lets the upload finish even if the budget or the deadline is reached now.",
    ),
    ProgressReason.SUSPENDING: ReasonText(
        "The trainer is saving a checkpoint before its Pods are deleted.",
        NOTHING,
        "Deletes the Pods with their grace period.",
    ),
    ProgressReason.SUSPENDED: ReasonText(
        "`spec.suspend` is true. No Pod runs and no GPU is held.",
        "Set `spec.suspend: false` to continue.",
        "Continues from the last checkpoint when it is resumed.",
    ),
    ProgressReason.NOT_SUSPENDED: ReasonText("The job is not suspended.", NOTHING, NOTHING),
    ProgressReason.FINISHED: ReasonText(
        "The job has ended and none of its Pods runs.",
        NOTHING,
        "Deletes finished Pods after `runPolicy.podRetentionSeconds`.",
    ),
    ProgressReason.GATE_PASSED: ReasonText(
        "The tuned model is better than the base model by at least what `evaluation.gate` asks for.",
        "Deploy the adapter in `status.adapterURI`.",
        "Sets the condition `Promoted` to True.",
    ),
    ProgressReason.GATE_FAILED: ReasonText(
        "The tuned model did not improve by what `evaluation.gate` asks for. The adapter is published all the same.",
        "Do not deploy it. Compare the losses in `status.evaluation`, then change the data or the training.",
        "Sets the condition `Promoted` to False.",
    ),
    ProgressReason.NOT_EVALUATED: ReasonText(
        "Base and tuned loss have not both been measured.",
        "Wait for the end of training. With `evaluation.baseline: false` there is nothing to compare with.",
        NOTHING,
    ),
}

WAITING: dict[WaitingReason, ReasonText] = {
    WaitingReason.QUOTA_EXCEEDED: ReasonText(
        "The namespace's ResourceQuota refused a Pod.",
        "Wait for other jobs, or have the quota raised.",
        "Deletes the other Pods of the attempt and tries again about every 30 seconds.",
    ),
    WaitingReason.POD_REFUSED: ReasonText(
        "Admission, Pod Security or RBAC refused a Pod. The message quotes the rule.",
        "Change the rule, or create the ServiceAccount or PriorityClass that the message names.",
        "Tries again about every 30 seconds.",
    ),
    WaitingReason.UNSCHEDULABLE: ReasonText(
        "No node can take a Pod. The message is the scheduler's.",
        "Free or add a node of the pool, or create the PersistentVolumeClaim that the message names.",
        "A job with one replica waits. Several replicas give up after the pool's `provisioningSeconds` (`NotScheduled`).",
    ),
    WaitingReason.IMAGE_PULL_FAILED: ReasonText(
        "The kubelet cannot pull an image.",
        "Check the image in `status.plan` and the pull secret of the job's ServiceAccount.",
        "Waits; the kubelet tries again.",
    ),
    WaitingReason.WAITING_FOR_GANG: ReasonText(
        "Some replicas have a node and others do not.",
        "Free or add nodes of the pool.",
        "Gives all nodes back after the pool's `provisioningSeconds` and tries again after a pause.",
    ),
    WaitingReason.BACK_OFF: ReasonText(
        "The last attempt or the last preflight failed. The message says why and when the next one starts.",
        "Read the message. Nothing if the cause is temporary.",
        "Starts again after a pause that doubles, up to 10 minutes.",
    ),
    WaitingReason.BUDGET_EXCEEDED: ReasonText(
        "The job has spent `runPolicy.budget`. Its checkpoint is saved.",
        "Raise `runPolicy.budget.maxCostUSD` to continue, or delete the job.",
        "Suspends the job. It continues by itself when the budget is raised.",
    ),
    WaitingReason.DEADLINE_EXCEEDED: ReasonText(
        "The job has run for `runPolicy.activeDeadlineSeconds`. Its checkpoint is saved.",
        "Raise `runPolicy.activeDeadlineSeconds` to continue, or delete the job.",
        "Suspends the job. It continues by itself when the deadline is raised.",
    ),
}

CHECKPOINT = "Starts the next attempt from the last complete checkpoint."

ATTEMPT: dict[AttemptOutcome, ReasonText] = {
    AttemptOutcome.SUCCEEDED: ReasonText(
        "The attempt trained to the end and published.", NOTHING, "Ends the job as `Published`."
    ),
    AttemptOutcome.PREEMPTED: ReasonText(
        "The Pod was asked to stop (SIGTERM) and saved a checkpoint.",
        "Nothing. A higher `priorityClassName` makes it rarer.",
        CHECKPOINT,
    ),
    AttemptOutcome.SPOT_RECLAIMED: ReasonText("The cloud took a spot node back.", NOTHING, CHECKPOINT),
    AttemptOutcome.EVICTED: ReasonText(
        "A drain, the eviction API or node pressure removed the Pod, or a kubelet refused it.", NOTHING, CHECKPOINT
    ),
    AttemptOutcome.NODE_LOST: ReasonText(
        "The node stopped answering.", NOTHING, CHECKPOINT + " A node that is blamed twice is avoided."
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
        "There is no model, or no such revision, at `model.source`.", "Correct the source or the revision.", EXAMINES
    ),
    TerminalReason.MODEL_UNAUTHORIZED: ReasonText(
        "The hub or bucket refused the credentials for the model.",
        "Accept the model's licence on the hub, or correct the Secret that `model.credentials` names.",
        EXAMINES,
    ),
    TerminalReason.MODEL_UNSUPPORTED: ReasonText(
        "The model cannot be sized, loaded or given an adapter. The message says what is missing.",
        "Choose a model of one of the types that the message lists.",
        EXAMINES,
    ),
    TerminalReason.MODEL_INVALID: ReasonText(
        "Files of the model are damaged or incomplete, or contradict each other. The message names files and tensors.",
        "Download or save the model again, or correct the file that the message names.",
        EXAMINES,
    ),
    TerminalReason.DATASET_NOT_FOUND: ReasonText(
        "There is no file at `datasets[].source`, or no such split.", "Correct the source.", EXAMINES
    ),
    TerminalReason.DATASET_UNAUTHORIZED: ReasonText(
        "The hub or bucket refused the credentials for the data.",
        "Correct the Secret that the data set names.",
        EXAMINES,
    ),
    TerminalReason.DATASET_INVALID: ReasonText(
        "A row or a column is not as the format asks. The message names the file, the row and the column.",
        "Correct the rows, or set `format` and `columns`. `finetune data preview -f job.yaml` shows what the model will see.",
        EXAMINES,
    ),
    TerminalReason.DATASET_TOO_SMALL: ReasonText(
        "Too few rows are left to train on or to evaluate with.", "Add rows, or change `evaluation`.", EXAMINES
    ),
    TerminalReason.DATASET_CHANGED: ReasonText(
        "The data changed after preflight, so the plan no longer belongs to it.",
        "Restore the data, or apply the job under a new name.",
        NOTHING,
    ),
    TerminalReason.OUTPUT_NOT_WRITABLE: ReasonText(
        "The destination of the output or of the checkpoints cannot be written to or deleted from.",
        "Give the credentials the right to write, list and delete there.",
        EXAMINES,
    ),
    TerminalReason.OUTPUT_OCCUPIED: ReasonText(
        "Another job or another run owns the destination. The message names it.",
        "Choose another destination for this job.",
        "Never overwrites the result of another run.",
    ),
    TerminalReason.LOSS_DIVERGED: ReasonText(
        "The loss became NaN or infinite, or stayed several times above its best for 50 steps.",
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
        "A job that is applied again continues from its checkpoints.",
    ),
}
