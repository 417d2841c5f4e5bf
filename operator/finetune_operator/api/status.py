"""FineTuneJob.status: the report. The store at the output is the truth; all of this can be lost and found again."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from finetune_operator.api.fields import (
    Count,
    Decimal,
    Digest,
    Message,
    Number,
    ShortText,
    SignedDecimal,
    StatusModel,
    Text,
    Time,
    between,
    items,
    items_by,
)
from finetune_operator.api.meta import Conditions, Metadata
from finetune_operator.api.plan import ModelArchitecture, Plan
from finetune_operator.api.reasons import Phase
from finetune_operator.api.resolved import ResolvedSpec
from finetune_operator.api.spec import FineTuneJobSpec

URI = Annotated[str, StringConstraints(max_length=1280)]


class PreflightStatus(StatusModel):
    """What the preflight Pod found."""

    model_revision: ShortText
    """Commit of a hub model, else a digest of the files."""
    model_bytes: Count
    """Size of the weights."""
    dataset_digest: Digest
    """Digest (sha256) over the rows as they are trained."""
    examples: Count
    """Training rows."""
    evaluation_examples: Count
    """Held-out rows."""
    tokens: Count
    """Tokens of the training rows, one epoch."""
    trained_tokens: Count
    """Tokens that the loss sees."""
    tokens_p50: Count
    """Median row length in tokens."""
    tokens_p99: Count
    """Length in tokens that 99 % of the rows do not exceed."""
    tokens_max: Count
    """Longest row."""
    truncated_rows: Count
    """Rows that are cut."""
    truncated_percent: Decimal
    """Their share in percent."""
    dropped_rows: Count
    """Rows left out because they are too long."""
    masked_rows: Count
    """Rows left out because nothing in them is trained."""
    duplicates: Count
    """Exact duplicates left out."""
    sampled: bool
    """Counted on a sample because the data is large."""
    sequence_length: Count
    """Longest row in tokens that the run uses."""
    packed_rows: Count
    """Rows after packing."""
    prepared_uri: URI = ""
    """Where the tokenised rows wait for the trainer."""
    preview_uri: URI = ""
    """A few rendered rows with the trained tokens marked."""
    warnings: Annotated[list[Message], items("atomic", most=16)] = []
    """What the user should know about the data."""
    architecture: ModelArchitecture | None = None
    """Shape of the base model."""


class ProgressStatus(StatusModel):
    """The last report of the trainer."""

    phase: ShortText = ""
    """What the trainer does: loading, baseline, training, evaluating, publishing or done."""
    step: Count
    """Finished optimizer steps."""
    total_steps: Count
    """Steps of the whole run."""
    percent: Annotated[int, between(0, 100)]
    """Share of totalSteps in percent."""
    epoch: Decimal = "0"
    """Passes over the data."""
    loss: SignedDecimal | None = None
    """Training loss."""
    eval_loss: SignedDecimal | None = None
    """Newest held-out loss."""
    learning_rate: Number | None = None
    """Current learning rate."""
    tokens_per_second: Decimal | None = None
    """Over all GPUs."""
    peak_memory_gib: Decimal | None = None
    """Largest allocated memory of any one GPU (host memory on the local cluster's CPU)."""
    seconds_remaining: Count | None = None
    """Estimated time to the end of training."""
    last_report_time: Time
    """When the trainer said so."""


class AttemptStatus(StatusModel):
    """One launch of the run."""

    number: Count
    """Counted from 0; part of the Pod names."""
    start_time: Time
    """When its first Pod was created."""
    running_time: Time | None = None
    """When its last Pod was scheduled: GPUs are held from here on."""
    end_time: Time | None = None
    """When its last Pod ended."""
    outcome: ShortText | None = None
    """How it ended: an attempt outcome."""
    message: Message | None = None
    """What happened."""
    node_names: Annotated[list[ShortText], items("atomic", most=128)] = []
    """Nodes it ran on."""
    failed_node: ShortText = ""
    """Node to blame for the end, where one is: after two attempts it is avoided."""
    first_step: Count = 0
    """Step of the checkpoint it started from."""
    last_step: Count = 0
    """Last finished step."""
    checkpoint_step: Count = 0
    """Step of its newest complete checkpoint."""
    gpu_seconds: Count = 0
    """GPUs times the seconds they were held."""
    cost_usd: Decimal = "0.00"
    """Cost: gpuSeconds times the pinned price."""


class CheckpointStatus(StatusModel):
    """The newest complete checkpoint."""

    step: Count
    """Optimizer step."""
    uri: URI = ""
    """Folder."""
    time: Time
    """When it was reported."""


class CostStatus(StatusModel):
    """Money spent so far."""

    gpu_hours: Decimal = "0.00"
    """Of all attempts."""
    cost_usd: Decimal = "0.00"
    """Of all attempts."""
    wasted_usd: Decimal = "0.00"
    """The part spent on steps that had to be done again, and on waiting."""
    currency: Literal["USD"] = "USD"
    """Currency."""


class SampleStatus(StatusModel):
    """One prompt, two answers."""

    prompt: Text
    """The prompt."""
    base: Text
    """The base model's answer."""
    tuned: Text
    """The tuned model's answer."""


class EvaluationStatus(StatusModel):
    """Base and tuned model on the same held-out rows."""

    examples: Count
    """Held-out rows."""
    base_loss: SignedDecimal | None = None
    """Mean loss per trained token of the base model."""
    tuned_loss: SignedDecimal
    """Mean loss per trained token of the tuned model."""
    base_perplexity: Decimal | None = None
    """Exponential of baseLoss."""
    tuned_perplexity: Decimal
    """Exponential of tunedLoss."""
    base_token_accuracy: Decimal | None = None
    """Share of the trained tokens that the base model predicts."""
    tuned_token_accuracy: Decimal | None = None
    """Share of the trained tokens that the tuned model predicts."""
    base_forgetting_loss: SignedDecimal | None = None
    """Loss of the base model on general text."""
    tuned_forgetting_loss: SignedDecimal | None = None
    """Loss of the tuned model on general text: much higher than the base model's means that it forgot."""
    relative_improvement: SignedDecimal | None = None
    """Improvement over the base model: (baseLoss - tunedLoss) / baseLoss."""
    samples: Annotated[list[SampleStatus], items("atomic", most=8)] = []
    """Prompts answered by both models."""


class ArtifactStatus(StatusModel):
    """Something published."""

    kind: Literal["adapter", "model"]
    """What it is: an adapter or a whole model."""
    uri: URI
    """Folder."""
    digest: Digest
    """Digest (sha256) over its files."""
    size_bytes: Count
    """Size of its files."""
    base_model: URI = ""
    """Source of the base model."""
    base_revision: ShortText = ""
    """Revision of the base model: an adapter fits no other."""
    lora_rank: Count = 0
    """Rank of an adapter."""
    servable: ShortText = ""
    """Server that can load it (vllm), or why none can."""


class MemoryStatus(StatusModel):
    """Prediction against measurement, in GiB of the fullest GPU."""

    predicted_gib: Decimal
    """Allocated memory that the plan predicted."""
    measured_gib: Decimal
    """Largest allocated memory that the trainer saw."""
    reserved_gib: Decimal | None = None
    """Largest reserved memory that the trainer saw."""


class FineTuneJobStatus(StatusModel):
    """What the operator knows about the run."""

    observed_generation: Count = 0
    """Generation that this status describes."""
    phase: Phase = Phase.PENDING
    """One word for people; scripts read the conditions."""
    conditions: Conditions = []
    """Accepted, Planned, PodsReady, Suspended, Promoted, Reconciling, Stalled, Succeeded."""
    run_digest: Digest = ""
    """Two jobs with the same digest are the same run."""
    preflight_generation: Count = 0
    """Generation whose model and data preflight examines or has examined."""
    spec_digest: Digest = ""
    """Digest of the part of the spec that preflight and plan rest on: when an edit changes it, both start again."""
    preflight: PreflightStatus | None = None
    """What preflight found."""
    resolved: ResolvedSpec | None = None
    """The spec with every default filled in."""
    plan: Plan | None = None
    """The layout of the run."""
    progress: ProgressStatus | None = None
    """The last report of the trainer."""
    attempts: Annotated[list[AttemptStatus], items_by("number", most=10)] | None = None
    """The last ten launches. From the first one on the spec is frozen."""
    attempts_without_progress: Count = 0
    """Failed attempts in a row that did not move the checkpoint forward."""
    archived_gpu_seconds: Count = 0
    """GPU-seconds of attempts that are no longer listed."""
    wasted_gpu_seconds: Count = 0
    """GPU-seconds spent on steps that had to be done again."""
    retry_time: Time | None = None
    """The next attempt starts then."""
    checkpoint: CheckpointStatus | None = None
    """The newest complete checkpoint."""
    cost: CostStatus | None = None
    """Money spent so far."""
    evaluation: EvaluationStatus | None = None
    """Base and tuned model on the same held-out rows."""
    memory: MemoryStatus | None = None
    """Predicted and measured memory."""
    artifacts: Annotated[list[ArtifactStatus], items("atomic", most=8)] = []
    """What was published."""
    adapter_uri: URI | None = None
    """The published adapter (or model, for method full): the one line to script against."""
    start_time: Time | None = None
    """When the operator saw the job first."""
    completion_time: Time | None = None
    """When it ended."""


class FineTuneJob(StatusModel):
    """The whole resource, parsed at the door."""

    metadata: Metadata
    spec: FineTuneJobSpec
    status: FineTuneJobStatus = Field(default_factory=FineTuneJobStatus)

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
