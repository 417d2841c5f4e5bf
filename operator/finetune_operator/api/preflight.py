"""What preflight found: pinned in the FineTunePlan, and a part of the status that decisions are made on. Read by pinned and status."""

from typing import Annotated

from finetune_operator.api.fields import Count, Decimal, Digest, Message, ShortText, StatusModel, items
from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.published import URI


class PreflightStatus(StatusModel):
    """Findings of the preflight Pod."""

    generation: Count = 0
    """Generation of the spec that preflight was started for."""
    spec_digest: Digest = ""
    """Digest of the part of the spec that preflight and plan depend on. If an edit changes it, both are redone."""
    model_revision: ShortText
    """Commit of a hub model; otherwise a digest of the files."""
    model_bytes: Count
    """Size of the weights in bytes."""
    model_dtype: ShortText = ""
    """Type of most of the weights: bfloat16, float16 or float32. A full fine-tune is published in it."""
    dataset_digest: Digest
    """SHA-256 digest of the rows as they are trained."""
    examples: Count
    """Number of training rows."""
    evaluation_examples: Count
    """Number of held-out rows."""
    adapter_bytes: Count = 0
    """Size of the weights of all adapters in mergeOf, in bytes."""
    generated_answers: Count = 0
    """Answers that each model generates for evaluation.metrics."""
    label_answers: Count = 0
    """Rows times labels whose likelihood each model computes for evaluation.metrics."""
    task_tokens: Count = 0
    """Tokens that each model reads for metrics of type lmEval."""
    task_tokens_max: Count = 0
    """Tokens of the longest text that is read for a metric of type lmEval, with the answer to it."""
    tokens: Count
    """Tokens in the training rows, for one epoch."""
    trained_tokens: Count
    """Tokens that count towards the loss."""
    tokens_p50: Count
    """Median row length in tokens."""
    tokens_p99: Count
    """The 99th percentile of the row length in tokens."""
    tokens_max: Count
    """Length of the longest row in tokens."""
    length_step: Count = 0
    """Tokens from one entry of rowsByLength to the next."""
    rows_by_length: Annotated[list[Count], items("atomic", most=32)] = []
    """Number of rows by length: the first entry counts those of less than lengthStep tokens, the next those of less than twice as many, and
    so on. The last of 32 entries also counts those that are longer."""
    truncated_rows: Count
    """Number of rows that are truncated."""
    truncated_percent: Decimal
    """Truncated rows in percent of all rows."""
    dropped_rows: Count
    """Number of rows dropped because they are too long."""
    masked_rows: Count
    """Number of rows dropped because none of their tokens are trained on."""
    duplicates: Count
    """Number of exact duplicates that were dropped."""
    sampled: bool
    """Whether the counts are estimates from a sample, because the data is large."""
    sequence_length: Count
    """Maximum row length in tokens that the run uses."""
    packed_rows: Count
    """Number of rows after packing."""
    prepared_uri: URI = ""
    """Location of the tokenised rows that the trainer reads."""
    preview_uri: URI = ""
    """Location of a few rendered rows with the trained tokens marked."""
    warnings: Annotated[list[Message], items("atomic", most=16)] = []
    """Things to know about the data before the run starts."""
    architecture: ModelArchitecture | None = None
    """Dimensions of the base model."""
