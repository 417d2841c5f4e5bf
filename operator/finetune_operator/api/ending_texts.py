"""What each end of an attempt and of a job means, as reason_texts does for the other reasons. Called by cli/generate_docs."""

from finetune_operator.api.reason_texts import NOTHING, ReasonText
from finetune_operator.api.reasons import AttemptOutcome, TerminalReason

CHECKPOINT = "Starts the next attempt from the last complete checkpoint."
UNCOUNTED = " This does not count against `maxRetries`; after 24 hours of nothing else the job fails."

ATTEMPT: dict[AttemptOutcome, ReasonText] = {
    AttemptOutcome.SUCCEEDED: ReasonText(
        "The attempt finished training and published the result.", NOTHING, "Ends the job as `Published`."
    ),
    AttemptOutcome.PREEMPTED: ReasonText(
        "The Pod was asked to stop (SIGTERM), or the scheduler gave its place to a Pod of higher priority.",
        "Nothing. A higher `priorityClassName` makes this rarer.",
        CHECKPOINT + UNCOUNTED,
    ),
    AttemptOutcome.SPOT_RECLAIMED: ReasonText(
        "The cloud provider reclaimed a spot node.", NOTHING, CHECKPOINT + UNCOUNTED
    ),
    AttemptOutcome.EVICTED: ReasonText(
        "A drain, the eviction API or node pressure removed the Pod.", NOTHING, CHECKPOINT + UNCOUNTED
    ),
    AttemptOutcome.NODE_LOST: ReasonText(
        "The node stopped responding, or lost the container when it was restarted.",
        NOTHING,
        CHECKPOINT + " A node that fails two attempts is avoided." + UNCOUNTED,
    ),
    AttemptOutcome.NODE_REFUSED: ReasonText(
        "The trainer's container did not start on the node: the kubelet refused the Pod, the runtime could not start the "
        "container, or another container of the Pod kept it from starting. The message says which.",
        "Nothing if another node takes the Pod. Otherwise repair what the message names.",
        "Avoids the node from then on and retries after a pause that doubles, up to 10 minutes." + UNCOUNTED,
    ),
    AttemptOutcome.OUT_OF_MEMORY: ReasonText(
        "A GPU ran out of memory.",
        "Nothing at first. If the job ends as `DoesNotFit`, lower `training.sequenceLength` or use `qlora` or a larger GPU.",
        "Halves the micro batch, turns on activation checkpointing and retries. The global batch stays the same. If that is "
        "spent before the first checkpoint, plans again with raised estimates.",
    ),
    AttemptOutcome.HOST_OUT_OF_MEMORY: ReasonText(
        "The Pod reached its memory limit (OOMKilled).",
        "If it happens again with all the memory of a node, use a pool with larger nodes.",
        "Gives the next attempt 50 % more memory, up to what a node of the pool has.",
    ),
    AttemptOutcome.COMMUNICATION_TIMEOUT: ReasonText(
        "The processes lost contact with each other, or did not find each other within an hour.",
        "If it happens again, check the network between the nodes, the cluster's DNS and any NetworkPolicy.",
        CHECKPOINT,
    ),
    AttemptOutcome.STALLED: ReasonText(
        "No step finished for too long. The stack traces of the processes are in the log.",
        "If it happens again, read `finetune logs JOB`.",
        CHECKPOINT,
    ),
    AttemptOutcome.STORAGE_FULL: ReasonText(
        "No space was left for a checkpoint, the cache or the output.",
        "Make room on the volume or in the bucket.",
        "Gives the next attempt 50 % more local disk, up to what a node of the pool has.",
    ),
    AttemptOutcome.STORAGE_UNAVAILABLE: ReasonText(
        "The bucket, hub or volume did not respond.", "Check that it is up and reachable from the Pod.", CHECKPOINT
    ),
    AttemptOutcome.TRAINER_ERROR: ReasonText(
        "The trainer failed with an unexpected error. Its stack trace is in the log.",
        "Read `finetune logs JOB`.",
        CHECKPOINT,
    ),
    AttemptOutcome.KILLED: ReasonText(
        "The Pod was killed from outside, or deleted by someone else.",
        "Find out who deletes Pods in this namespace.",
        CHECKPOINT,
    ),
    AttemptOutcome.SUSPENDED: ReasonText(
        "`spec.suspend`, the budget, the deadline or a limit of the FineTunePolicy stopped the attempt.",
        "Resume the job, or raise the limit.",
        "Waits.",
    ),
    AttemptOutcome.NOT_SCHEDULED: ReasonText(
        "Not all replicas found a node within the pool's `provisioningSeconds`.",
        "Free or add nodes of the pool.",
        "Releases the nodes and retries after a pause, or at once on another pool if `resources.failover` allows it. This does not "
        "count against `maxRetries`.",
    ),
}

EXAMINES = (
    "Preflight runs again as soon as the spec changes. If you change something else, delete the job and apply it again."
)

EXAMINES_AGAIN = (
    "Preflight runs again as soon as the spec changes, and automatically for 24 hours (at least every 10 minutes). The job continues when "
    "preflight succeeds."
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
        "Make one of the changes that the message lists. Each of them was planned and fits.",
        "Before the first attempt, plans again when the spec, a GPUPool or a quota of the namespace changes. After that, nothing.",
    ),
    TerminalReason.POLICY_VIOLATION: ReasonText(
        "The namespace's FineTunePolicy does not allow the job. The message names each rule, the figure, and who can change it.",
        "Change the job, or ask for another policy.",
        "Before the first attempt, checks again when the spec, the policy or a GPUPool changes. After that, nothing.",
    ),
    TerminalReason.MODEL_NOT_FOUND: ReasonText(
        "The model or the revision does not exist at `model.source`.",
        "Correct the source or the revision.",
        EXAMINES_AGAIN,
    ),
    TerminalReason.MODEL_UNAUTHORIZED: ReasonText(
        "The hub or bucket refused the credentials for the model.",
        "Accept the model's licence on the hub, or correct the Secret that `model.credentials` names.",
        EXAMINES_AGAIN,
    ),
    TerminalReason.MODEL_UNSUPPORTED: ReasonText(
        "The model cannot be planned for, loaded or given an adapter. The message says what is missing.",
        "Choose a model of one of the types that the message lists.",
        EXAMINES,
    ),
    TerminalReason.MODEL_INVALID: ReasonText(
        "Files of the model are damaged or incomplete, or contradict each other. The message names files and tensors.",
        "Download or save the model again, or correct the file that the message names.",
        EXAMINES_AGAIN,
    ),
    TerminalReason.DATASET_NOT_FOUND: ReasonText(
        "The file or the split does not exist at `datasets[].source`.", "Correct the source.", EXAMINES_AGAIN
    ),
    TerminalReason.DATASET_UNAUTHORIZED: ReasonText(
        "The hub or bucket refused the credentials for the data.",
        "Correct the Secret in the dataset's `credentials`.",
        EXAMINES_AGAIN,
    ),
    TerminalReason.DATASET_INVALID: ReasonText(
        "A row or a column does not match the format. The message names the file, the row and the column.",
        "Correct the rows, or set `format` and `columns`. `finetune data preview -f job.yaml` shows what the model will see.",
        EXAMINES_AGAIN,
    ),
    TerminalReason.DATASET_TOO_SMALL: ReasonText(
        "Too few rows are left for training or evaluation.", "Add rows, or change `evaluation`.", EXAMINES_AGAIN
    ),
    TerminalReason.DATASET_CHANGED: ReasonText(
        "The data changed after preflight, so the plan no longer matches it.",
        "Restore the data, delete the job and apply it again; or apply it under a new name with another `output.destination`.",
        NOTHING,
    ),
    TerminalReason.OUTPUT_NOT_WRITABLE: ReasonText(
        "The destination of the output or of the checkpoints cannot be written to or deleted from.",
        "Grant the credentials permission to write, list and delete there.",
        EXAMINES_AGAIN,
    ),
    TerminalReason.OUTPUT_OCCUPIED: ReasonText(
        "Another job or another run owns the destination. The message names it.",
        "Choose another destination for this job.",
        "Never overwrites the result of another run.",
    ),
    TerminalReason.LOSS_DIVERGED: ReasonText(
        "The loss became NaN or infinite, or stayed several times above its best for 50 steps.",
        "Lower `training.learningRate`, check the data, and apply the job under a new name with another `output.destination`.",
        "Does not retry, and does not publish the weights.",
    ),
    TerminalReason.NO_ACCELERATOR: ReasonText(
        "The Pod sees no GPU that the trainer image can use.",
        "Check the driver (r580 or newer) and the device plugin of the pool's nodes, and `GPUPool.spec.resourceName`. The message says "
        "where the type of GPU is the cause, or a vGPU.",
        NOTHING,
    ),
    TerminalReason.TRAINER_OUTDATED: ReasonText(
        "The image of a Pod is older than the operator, and the job uses a field that the image does not know. Jobs that were planned "
        "before an upgrade of the operator keep their image and are not affected.",
        "Set `trainer.image` and `trainer.preflightImage` of the chart to images of the operator's version.",
        "Before the first attempt: runs preflight again for 24 hours.",
    ),
    TerminalReason.PUBLISH_FAILED: ReasonText(
        "Training is complete, and the Pod without GPUs that publishes the model could not. The message says why.",
        "Correct the cause, delete the job and apply it again: it continues from its last checkpoint, trains no step again, and publishes "
        "the model. Do not delete it with `--with-checkpoints`: they hold the weights.",
        "Nothing. The checkpoints stay.",
    ),
    TerminalReason.EXPORT_FAILED: ReasonText(
        "The result is published, but a form in `output.exports` could not be made of it. The message says why.",
        "Correct the cause, delete the job and apply it again: nothing is trained again, and only what is missing is made.",
        "Nothing. The published result stays.",
    ),
    TerminalReason.MERGE_FAILED: ReasonText(
        "The adapters in `mergeOf` could not be merged, or the result could not be measured. The message says why.",
        "Correct the cause, delete the job and apply it again.",
        "Nothing. No result is published.",
    ),
    TerminalReason.NAME_CONFLICT: ReasonText(
        "A Pod or Service with a name that the job needs already exists and does not belong to the job.",
        "Delete that object, or apply the job under a new name with another `output.destination`.",
        NOTHING,
    ),
    TerminalReason.PLAN_LOST: ReasonText(
        "The FineTunePlan of a job with attempts was deleted, and preflight and planning no longer lead to the same run: model, data, "
        "the pool (not its price), quotas or policy have changed. The message says which.",
        "Delete the job and apply it again: it is planned anew.",
        "Makes preflight and plan again first, while the Pods continue. A job that is applied again resumes from its checkpoint, if it is "
        "still the same run.",
    ),
    TerminalReason.RETRIES_EXHAUSTED: ReasonText(
        "`runPolicy.maxRetries` attempts in a row saved no newer checkpoint.",
        "Read the message and `finetune logs JOB`, fix the cause, then delete the job and apply it again.",
        "A job that is applied again resumes from its checkpoints. If preflight failed, it runs again automatically for 24 hours.",
    ),
}
