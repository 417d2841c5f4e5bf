"""What a run leaves behind, as status shows it: the comparison of both models, artifacts, measured memory. Read by status."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from finetune_operator.api.fields import Count, Decimal, Digest, ShortText, SignedDecimal, StatusModel, Text, items
from finetune_operator.api.plan import PoolNodes

URI = Annotated[str, StringConstraints(max_length=1280)]


class SampleStatus(StatusModel):
    """One prompt with the answers of both models."""

    prompt: Text
    """The prompt."""
    base: Text
    """The base model's answer."""
    tuned: Text
    """The tuned model's answer."""


class MetricStatus(StatusModel):
    """One metric of both models on the same rows, with 95 % intervals by bootstrap over the rows."""

    name: ShortText
    """Name of the metric, or of its further figure."""
    examples: Count
    """Number of rows."""
    base: Decimal | None = None
    """Figure of the base model."""
    base_low: Decimal | None = None
    """Lower end of its interval."""
    base_high: Decimal | None = None
    """Upper end of its interval."""
    tuned: Decimal
    """Figure of the tuned model."""
    tuned_low: Decimal
    """Lower end of its interval."""
    tuned_high: Decimal
    """Upper end of its interval."""
    difference: SignedDecimal | None = None
    """Tuned minus base, measured row by row."""
    difference_low: SignedDecimal | None = None
    """Lower end of its interval. Above 0 the tuned model is better with 95 % confidence."""
    difference_high: SignedDecimal | None = None
    """Upper end of its interval."""
    verdict: ShortText = ""
    """Whether the tuned model is better, in words; or that the rows are too few to tell."""
    note: ShortText = ""
    """What to know about the figures, such as answers that were cut."""


class EvaluationStatus(StatusModel):
    """Comparison of the base and the tuned model on the same held-out rows."""

    examples: Count
    """Number of held-out rows."""
    base_loss: SignedDecimal | None = None
    """Mean loss of the base model per trained token. Its perplexity is exp(baseLoss)."""
    tuned_loss: SignedDecimal
    """Mean loss of the tuned model per trained token. Its perplexity is exp(tunedLoss)."""
    base_token_accuracy: Decimal | None = None
    """Fraction of the trained tokens that the base model predicts correctly."""
    tuned_token_accuracy: Decimal | None = None
    """Fraction of the trained tokens that the tuned model predicts correctly."""
    base_forgetting_loss: SignedDecimal | None = None
    """Loss of the base model on general text."""
    tuned_forgetting_loss: SignedDecimal | None = None
    """Loss of the tuned model on general text. If it is much higher than the base model's, the model has forgotten."""
    relative_improvement: SignedDecimal | None = None
    """Relative improvement over the base model: (baseLoss - tunedLoss) / baseLoss."""
    metrics: Annotated[list[MetricStatus], items("atomic", most=16)] = []
    """What evaluation.metrics measured."""
    samples: Annotated[list[SampleStatus], items("atomic", most=8)] = []
    """Prompts with the answers of both models."""


class ArtifactStatus(StatusModel):
    """A published adapter or model."""

    kind: Literal["adapter", "model", "merged", "gguf-f16", "gguf-q8_0", "gguf-q4_k_m"]
    """Kind of artifact: the adapter or full model that was trained, or a form that was exported from it."""
    uri: URI
    """URI of the folder."""
    digest: Digest
    """SHA-256 digest of its files."""
    size_bytes: Count
    """Total size of its files in bytes."""
    base_revision: ShortText = ""
    """Revision of the base model. The adapter works with this revision only."""
    lora_rank: Count = 0
    """LoRA rank of an adapter."""
    servable: ShortText = ""
    """Inference servers that load it as it is, with the options they need, and those that do not."""
    checked: ShortText = ""
    """What an exported form was compared with before it was published, and the result."""


class ExportStatus(StatusModel):
    """The Pod that makes the forms in output.exports once the result is published. Before that it publishes the model that an attempt
    has left to it, or merges the adapters in mergeOf. It holds no GPU."""

    number: Count = 0
    """Number of the Pod, from 0."""
    failures: Count = 0
    """Failed tries."""
    memory_gib: Count
    """Host memory of the Pod in GiB."""
    ephemeral_gib: Count
    """Local disk of the Pod in GiB."""
    cpus: Count
    """CPU cores of the Pod."""
    image: ShortText = ""
    """Image of the Pod."""
    serving_pool: PoolNodes | None = None
    """The pool whose nodes the published manifests ask for. Only of a job with mergeOf: others have the pool of their plan."""


class MemoryStatus(StatusModel):
    """Predicted and measured memory of the fullest GPU in GiB."""

    predicted_gib: Decimal
    """Peak allocated memory that the plan predicted."""
    measured_gib: Decimal
    """Peak allocated memory that the trainer measured."""
    reserved_gib: Decimal | None = None
    """Peak reserved memory that the trainer measured."""
    loading_gib: Decimal | None = None
    """Peak allocated memory before the first step, while the weights are loaded and the base model is measured."""
