"""FineTuneJob.status: the report. The store at the output is the truth; all of this can be lost and found again.

What is pinned once (resolved spec, preflight, whole plan) is in an object of its own, which pinned.py joins with the status.
"""

from typing import Annotated

from pydantic import Field

from finetune_operator.api.fields import (
    Count,
    Decimal,
    Digest,
    Message,
    Name,
    Number,
    ShortText,
    SignedDecimal,
    StatusModel,
    Time,
    between,
    items,
    items_by,
)
from finetune_operator.api.meta import Conditions, Metadata
from finetune_operator.api.plan import Plan, PlanSummary
from finetune_operator.api.pool_pod import PodGroupKind
from finetune_operator.api.preflight import PreflightStatus
from finetune_operator.api.published import URI, ArtifactStatus, EvaluationStatus, ExportStatus, MemoryStatus
from finetune_operator.api.reasons import Phase
from finetune_operator.api.resolved import ResolvedSpec
from finetune_operator.api.spec import FineTuneJobSpec


class ProgressStatus(StatusModel):
    """Last progress report of the trainer."""

    phase: ShortText = ""
    """What the trainer is doing: loading, baseline, training, evaluating or publishing. Absent once it has published."""
    step: Count
    """Number of finished optimizer steps."""
    total_steps: Count
    """Number of optimizer steps in the whole run."""
    percent: Annotated[int, between(0, 100)]
    """Finished steps in percent of totalSteps."""
    epoch: Decimal = "0"
    """Passes over the data so far."""
    loss: SignedDecimal | None = None
    """Training loss."""
    eval_loss: SignedDecimal | None = None
    """Latest held-out loss."""
    learning_rate: Number | None = None
    """Current learning rate."""
    tokens_per_second: Decimal | None = None
    """Throughput of all GPUs together, not counting padding."""
    model_flop_utilisation: Decimal | None = None
    """Share of the GPUs' peak that the throughput uses: tokensPerSecond x flopsPerToken / (GPUs x peakTflopsPerGPU), with the figures of
    the FineTunePlan. Absent on a CPU."""
    padding_share: Decimal | None = None
    """Share of the computed positions that hold padding instead of a token."""
    peak_memory_gib: Decimal | None = None
    """Peak allocated memory of any GPU in GiB (of the host when training on CPU on the local cluster)."""
    seconds_remaining: Count | None = None
    """Estimated seconds until training is finished."""
    last_report_time: Time | None = None
    """Time of this report. Absent once the trainer has published."""


class AttemptStatus(StatusModel):
    """One attempt to run the job."""

    number: Count
    """Number of the attempt, counted from 0 and part of its Pod names. Messages count from 1."""
    start_time: Time
    """Time when the first Pod was created."""
    running_time: Time | None = None
    """Time when the last Pod was scheduled. GPUs are in use from then on."""
    end_time: Time | None = None
    """Time when the last Pod finished."""
    outcome: ShortText | None = None
    """Outcome of the attempt."""
    message: Message | None = None
    """Description of what happened. Absent if the attempt published, or handed its model over."""
    node_names: Annotated[list[ShortText], items("atomic", most=128)] = []
    """Nodes that the attempt ran on."""
    failed_node: ShortText = ""
    """Node that caused the failure, if one did. A node that fails two attempts is avoided."""
    first_step: Count = 0
    """Step of the checkpoint that the attempt started from."""
    last_step: Count = 0
    """Last finished step."""
    checkpoint_step: Count = 0
    """Step of the latest complete checkpoint. Absent if the attempt published and the job has succeeded."""
    gpu_seconds: Count = 0
    """Number of GPUs times the seconds they were in use."""
    cost_usd: Decimal = "0.00"
    """Cost of the attempt: gpuSeconds times the price in status.plan.pool."""
    handed_over: bool = False
    """Whether the attempt left its model to be published by a Pod without GPUs."""


class CheckpointStatus(StatusModel):
    """Latest complete checkpoint."""

    step: Count
    """Optimizer step at which it was saved."""
    uri: URI = ""
    """URI of the folder."""
    time: Time
    """Time when the trainer reported it."""


class CostStatus(StatusModel):
    """Cost so far."""

    gpu_hours: Decimal = "0.00"
    """GPU-hours of all attempts."""
    cost_usd: Decimal
    """Cost of all attempts in US dollars."""
    wasted_usd: Decimal = "0.00"
    """Part of the cost that was spent on repeated steps and on waiting."""


class ReplannedStatus(StatusModel):
    """What happened under earlier plans, if the job was planned again before its first checkpoint."""

    pools: Annotated[list[Name], items("atomic", most=32)] = []
    """Pools that the job left because they had no free nodes. The others are tried first."""
    gpu_seconds: Count = 0
    """GPU-seconds of the attempts under earlier plans."""
    cost_usd: Decimal = "0.00"
    """Cost of these attempts in US dollars."""


class ReportedStatus(StatusModel):
    """What the operator observed."""

    observed_generation: Count = 0
    """Generation of the spec that this status describes."""
    phase: Phase = Phase.PENDING
    """One-word summary for people. Scripts should read the conditions."""
    conditions: Conditions = []
    """Conditions: Planned and Succeeded of every job; PodsReady and Reconciling until it has finished; Suspended from the first suspension
    on; Stalled if it has failed; Accepted if the spec breaks a rule; Promoted if it has a gate. They describe observedGeneration."""
    run_digest: Digest = ""
    """Digest that identifies the run. Two jobs with the same digest are the same run."""
    preflight_generation: Count = 0
    """Generation of the spec that preflight was started for, until it has reported: then its FineTunePlan says so."""
    spec_digest: Digest = ""
    """Digest of the part of the spec that preflight examines, until it has reported: then its FineTunePlan has it."""
    plan_name: Name | None = None
    """Name of the FineTunePlan with the findings of preflight, the spec with every default filled in, and the whole plan."""
    plan: PlanSummary | None = None
    """The layout chosen for the run, in short."""
    queue_name: Name | None = None
    """LocalQueue of Kueue that the attempts wait in."""
    pod_group: PodGroupKind | None = None
    """Scheduler whose PodGroups the attempts have."""
    replanned: ReplannedStatus | None = None
    """Earlier plans of the job, if there were any."""
    progress: ProgressStatus | None = None
    """Last progress report of the trainer."""
    attempts: Annotated[list[AttemptStatus], items_by("number", most=10)] | None = None
    """The last ten attempts. Once the first one has started, the spec is frozen."""
    attempts_without_progress: Count = 0
    """Consecutive failed attempts without a newer checkpoint."""
    disruptions: Count = 0
    """Consecutive attempts without a newer checkpoint that ended through no fault of the job."""
    disrupted_since: Time | None = None
    """Time of the first of these."""
    refused_nodes: Annotated[list[ShortText], items("atomic", most=16)] = []
    """Nodes that refused a Pod of this job. They are avoided."""
    archived_gpu_seconds: Count = 0
    """GPU-seconds of attempts that are no longer listed."""
    wasted_gpu_seconds: Count = 0
    """GPU-seconds spent on steps that had to be repeated."""
    retry_time: Time | None = None
    """Time when the next attempt starts."""
    checkpoint: CheckpointStatus | None = None
    """Latest complete checkpoint of a job that has not succeeded."""
    cost: CostStatus | None = None
    """Cost so far."""
    evaluation: EvaluationStatus | None = None
    """Comparison of the base and the tuned model on the same held-out rows."""
    memory: MemoryStatus | None = None
    """Predicted and measured memory."""
    artifacts: Annotated[list[ArtifactStatus], items("atomic", most=8)] = []
    """Published adapters and models."""
    export: ExportStatus | None = None
    """The Pod that merges the adapters in mergeOf, and makes the forms in output.exports."""
    adapter_uri: URI | None = None
    """Location of the published adapter (or model, for method full), for scripts."""
    start_time: Time | None = None
    """Time when the operator first saw the job."""
    completion_time: Time | None = None
    """Time when the job finished."""

    @property
    def in_short(self) -> Plan | PlanSummary | None:
        """The layout and its price, as far as they are known."""
        return self.plan


class FineTuneJobStatus(ReportedStatus):
    """The status together with what is pinned, as decisions are made on it."""

    preflight: PreflightStatus | None = None
    """Findings of the preflight Pod."""
    resolved: ResolvedSpec | None = None
    """The spec with every default filled in."""
    plan: Plan | None = None  # type: ignore[assignment]  # a plan has all that its summary has; test_pinned.py holds it
    """The layout chosen for the run."""
    unread: PlanSummary | None = None
    """What status says about a plan that is not at hand: nobody needs it since the job has ended, or the FineTunePlan is gone."""

    @property
    def in_short(self) -> Plan | PlanSummary | None:
        """The layout and its price, of the plan or of what status says about it."""
        return self.plan or self.unread


class ReportedJob(StatusModel):
    """The job as the API server holds it, without what is pinned: enough for a list."""

    metadata: Metadata
    spec: FineTuneJobSpec
    status: ReportedStatus = Field(default_factory=ReportedStatus)

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"


class FineTuneJob(ReportedJob):
    """The whole resource, parsed at the door."""

    status: FineTuneJobStatus = Field(default_factory=FineTuneJobStatus)
