"""What each reason means, what a user does about it, and what the operator does by itself: the text of docs/reference/reasons.md.

One entry for each value of the enums in reasons.py; a test holds it. The ends are in ending_texts. Called by cli/generate_docs.
"""

from typing import NamedTuple

from finetune_operator.api.reasons import ProgressReason, WaitingReason


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
        "The layout is chosen and pinned in the FineTunePlan that `status.planName` names.",
        NOTHING,
        "Starts attempt 1.",
    ),
    ProgressReason.PLAN_ONLY: ReasonText(
        "`spec.planOnly` is true and the plan is ready.",
        "Read the FineTunePlan (`finetune get JOB -o yaml` includes it), then set `spec.planOnly: false` to run the job.",
        "Waits. No GPU is used.",
    ),
    ProgressReason.STARTING: ReasonText(
        "Pods are being created, scheduled or started.", NOTHING, "Starts training when all Pods run."
    ),
    ProgressReason.RUNNING: ReasonText(
        "All Pods of the attempt run.", NOTHING, "Copies progress from the log of replica 0 into the status."
    ),
    ProgressReason.STOPPING: ReasonText(
        "A running Pod is being deleted, and not by the operator.",
        "Nothing.",
        "Starts the next attempt from the last complete checkpoint when the Pod is gone.",
    ),
    ProgressReason.PUBLISHING: ReasonText(
        "Training is complete and the result is being uploaded. The message says if a Pod without GPUs does it.",
        "Nothing. `finetune logs JOB --export` shows the log of that Pod.",
        "Lets the upload finish even if the budget or the deadline is reached now. Retries the Pod without GPUs up to `maxRetries` times.",
    ),
    ProgressReason.EXPORTING: ReasonText(
        "The result is published, and a Pod without GPUs makes the forms in `output.exports`.",
        "Nothing. `finetune logs JOB --export` shows its log.",
        "Ends the job when the forms are published. Retries up to `maxRetries` times.",
    ),
    ProgressReason.MERGING: ReasonText(
        "A Pod without GPUs merges the adapters in `mergeOf` and compares the result with the base model.",
        "Nothing. `finetune logs JOB --export` shows its log.",
        "Ends the job when the merged adapter is published. Retries up to `maxRetries` times.",
    ),
    ProgressReason.SUSPENDING: ReasonText(
        "The trainer is saving a checkpoint before its Pods are deleted.",
        NOTHING,
        "Deletes the Pods with their grace period.",
    ),
    ProgressReason.SUSPENDED: ReasonText(
        "`spec.suspend` is true. No Pod runs and no GPU is in use.",
        "Set `spec.suspend: false` to continue.",
        "Continues from the last checkpoint when it is resumed.",
    ),
    ProgressReason.NOT_SUSPENDED: ReasonText("The job is not suspended.", NOTHING, NOTHING),
    ProgressReason.FINISHED: ReasonText(
        "The job has finished and none of its Pods runs.",
        NOTHING,
        "Deletes finished Pods after `runPolicy.podRetentionSeconds`.",
    ),
    ProgressReason.DELETING: ReasonText(
        "The job is being deleted.",
        "Nothing. If it stays, remove the finalizer that the message names.",
        "Deletes the Pods at once, with their grace period, even if a finalizer still holds the job.",
    ),
    ProgressReason.GATE_PASSED: ReasonText(
        "The tuned model reaches everything that `evaluation.gate` requires; of metrics the lower end of the 95 % interval does.",
        "Deploy the adapter in `status.adapterURI`.",
        "Sets the condition `Promoted` to True.",
    ),
    ProgressReason.GATE_FAILED: ReasonText(
        "The tuned model does not reach everything that `evaluation.gate` requires. The adapter is published anyway.",
        "Do not deploy it. Look at `status.evaluation` and the answers beside the result, then change the data or the training.",
        "Sets the condition `Promoted` to False.",
    ),
    ProgressReason.NOT_EVALUATED: ReasonText(
        "What `evaluation.gate` asks for has not been measured yet.",
        "Wait until training is finished. With `evaluation.baseline: false`, there is nothing to compare with.",
        NOTHING,
    ),
}

WAITING: dict[WaitingReason, ReasonText] = {
    WaitingReason.QUOTA_EXCEEDED: ReasonText(
        "The namespace's ResourceQuota is used up: a Pod was refused. The message names the jobs that hold its GPUs.",
        "Wait for other jobs, or have the quota raised.",
        "Deletes the other Pods of the attempt and retries about every 30 seconds, and at once when the quota changes. A job that never "
        "ran is planned again if the quota was lowered below its plan.",
    ),
    WaitingReason.POD_REFUSED: ReasonText(
        "Admission, Pod Security or RBAC refused a Pod, and the message quotes the rule; or a Pod of a former job of this name is still "
        "there.",
        "Change the rule, create the ServiceAccount or PriorityClass that the message names, or delete what the former job left, with the "
        "command in the message.",
        "Retries about every 30 seconds.",
    ),
    WaitingReason.WRITE_FAILED: ReasonText(
        "The API server failed twice in a row to create, change or delete something for the job. The message quotes it: often an "
        "admission webhook that is down, or a policy that denies the operator.",
        "Repair what the message names.",
        "Tries again after a pause that doubles, up to 1 minute, and goes on by itself.",
    ),
    WaitingReason.UNSCHEDULABLE: ReasonText(
        "No node can take a Pod. The message is the scheduler's and, once the Pod has waited for two minutes, what an autoscaler says: "
        "whether nodes are on their way, and if not, why.",
        "Free or add a node of the pool, or create the PersistentVolumeClaim that the message names.",
        "A job with one replica waits. Several replicas, and jobs that may move to another pool (`resources.failover`), give up "
        "after the pool's `provisioningSeconds` (`NotScheduled`).",
    ),
    WaitingReason.GATED: ReasonText(
        "Somebody else's scheduling gate holds a Pod, such as that of a queue. The message names it.",
        "Wait, or ask whoever runs what set the gate.",
        "Waits. The scheduler does not look at the Pod until the gate is gone.",
    ),
    WaitingReason.CANNOT_START: ReasonText(
        "A Pod has a node, but a container cannot be created: a Secret, a volume, the network or another container is in the way. The "
        "message quotes the kubelet, or the newest Warning Event of the Pod once it has waited for two minutes. It also says if the node "
        "has not begun with the Pod by then.",
        "Create or repair what the message names.",
        "Waits; the kubelet tries again and the job goes on by itself.",
    ),
    WaitingReason.NODE_SILENT: ReasonText(
        "The node of a running Pod does not answer. Nobody knows whether the trainer runs on.",
        "Nothing if the node comes back. Otherwise delete the Node.",
        "Waits until Kubernetes gives the Pod up, after about five minutes, then starts the next attempt.",
    ),
    WaitingReason.IMAGE_PULL_FAILED: ReasonText(
        "The kubelet cannot pull an image.",
        "Check the image in the FineTunePlan and the pull secret of the job's ServiceAccount.",
        "Waits; the kubelet retries.",
    ),
    WaitingReason.WAITING_FOR_GANG: ReasonText(
        "Some replicas are scheduled and others are not.",
        "Free or add nodes of the pool.",
        "Releases all nodes after the pool's `provisioningSeconds` and retries after a pause.",
    ),
    WaitingReason.BACK_OFF: ReasonText(
        "The last attempt or the last preflight failed. The message says why and when the next one starts.",
        "Read the message. Nothing if the cause is temporary.",
        "Retries after a pause that doubles each time, up to 10 minutes.",
    ),
    WaitingReason.BUDGET_EXCEEDED: ReasonText(
        "The job has spent `runPolicy.budget`. Its checkpoint is saved.",
        "Raise `runPolicy.budget.maxCostUSD` to continue, or delete the job.",
        "Suspends the job. It continues automatically when the budget is raised.",
    ),
    WaitingReason.DEADLINE_EXCEEDED: ReasonText(
        "The job has run for `runPolicy.activeDeadlineSeconds`. Its checkpoint is saved.",
        "Raise `runPolicy.activeDeadlineSeconds` to continue, or delete the job.",
        "Suspends the job. It continues automatically when the deadline is raised.",
    ),
    WaitingReason.POLICY_LIMIT: ReasonText(
        "A limit of the namespace's FineTunePolicy is reached: jobs or GPUs at a time, the money of the month, or what one job may cost or "
        "take. The message names the limit, the figure, and who can change it.",
        "Wait for the jobs that the message names, or for the next month; or ask for a higher limit.",
        "A job that has not started waits, a running one is suspended with a checkpoint. It continues by itself.",
    ),
    WaitingReason.QUEUED: ReasonText(
        "The attempt waits in a queue of Kueue. The message is Kueue's, or says why Kueue took the quota back.",
        "Wait, or ask whoever runs the queue.",
        "Creates the Pods when Kueue admits the Workload. When Kueue evicts it, the trainer saves a checkpoint, the Pods go, the quota is "
        "given back and the next attempt queues.",
    ),
    WaitingReason.QUEUE_UNAVAILABLE: ReasonText(
        "The job has a queue, and Kueue is not installed or the operator is not allowed to use it.",
        "Do what the message says.",
        "Checks again every 5 seconds. A running job keeps running.",
    ),
}
