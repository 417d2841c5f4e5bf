"""FineTuneJob.spec: what `kubectl explain ftj.spec` prints. Static defaults live here, three of them in the contract."""

from typing import Annotated, Literal

from finetune_contract import HELD_OUT_FRACTION, HELD_OUT_ROWS, SAMPLE_TOKENS

from finetune_operator.api.fields import UNIQUE, Model, Name, Text, between, items
from finetune_operator.api.locations import DataSource, Destination, Folder, Source
from finetune_operator.api.values import (
    ColumnName,
    Dropout,
    GradNorm,
    HalfFraction,
    LearningRate,
    LossDelta,
    ModuleName,
    Money,
    NeftuneAlpha,
    Prompt,
    Revision,
    Share,
    Split,
    Weight,
    WeightDecay,
)


class Credentials(Model):
    """A Secret of the same namespace. It is mounted into the Pods, never read by the operator. Keys that are read:
    HF_TOKEN, HF_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL."""

    secret_name: Name
    """Name of the Secret."""


class ModelSpec(Model):
    """The base model."""

    source: Source
    """Where the model is: hf://ORG/NAME, s3://BUCKET/PREFIX, pvc://CLAIM/PATH, or file:///PATH (local cluster only)."""
    revision: Revision | None = None
    """Commit, tag or branch of a hub model. The commit found is recorded in status.preflight.modelRevision."""
    credentials: Credentials | None = None
    """Secret with the token or keys to read it."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Needs a revision that is a full commit id."""


class ColumnsSpec(Model):
    """Names of the columns by role, where they differ from the role's own name."""

    messages: ColumnName | None = None
    """Column with the list of {role, content}."""
    prompt: ColumnName | None = None
    """Column with the question: a string or a list of messages."""
    completion: ColumnName | None = None
    """Column with the answer: a string or a list of messages."""
    text: ColumnName | None = None
    """Column with plain text."""
    system: ColumnName | None = None
    """Column with the system prompt of the row."""


class DatasetSpec(Model):
    """Rows to learn from."""

    source: DataSource
    """A file, glob or folder of jsonl, json, csv, parquet or arrow at s3://BUCKET/KEY, pvc://CLAIM/PATH or
    file:///PATH (local cluster only), or a data set of the hub: hf://ORG/NAME."""
    split: Split = "train"
    """Split of a hub data set."""
    format: Literal["auto", "messages", "prompt-completion", "text"] = "auto"
    """How a row is read; auto tells by its columns."""
    columns: ColumnsSpec | None = None
    """Names of the columns by role, where they differ from the role's own name."""
    max_examples: Annotated[int, between(1, 1_000_000_000)] | None = None
    """Use a random sample of so many rows, drawn with training.seed: the cheap first run."""
    weight: Weight | None = None
    """Share of this data set in a mixture, relative to the others: a decimal in quotes such as "2.0". All rows are
    used as they are when absent."""
    credentials: Credentials | None = None
    """Secret with the token or keys to read it."""


class ChatSpec(Model):
    """How conversations become text."""

    template: Literal["auto", "chatml"] = "auto"
    """Template of a conversation: auto is the tokenizer's own; chatml is for base models that have none."""
    system_prompt: Text = ""
    """System message for rows that have none."""
    train_on: Literal["assistant", "last", "all"] = "assistant"
    """Turns that the loss sees: every assistant turn, only the last one, or everything."""


class LoraSpec(Model):
    """The adapter of methods lora and qlora."""

    rank: Annotated[int, between(1, 1024)] = 16
    """Rank of the adapter: 16 to 32 for most tasks, 64 to 128 for deep changes."""
    alpha: Annotated[int, between(1, 4096)] | None = None
    """Scale of the adapter; default twice the rank, for variant rslora the rank."""
    dropout: Dropout = "0.0"
    """Dropout before the adapter: a decimal in quotes such as "0.05"."""
    targets: Literal["all-linear", "attention", "custom"] = "all-linear"
    """Linear layers that get an adapter. The router of a mixture of experts never does."""
    target_modules: Annotated[list[ModuleName], items("set", least=1, most=64), UNIQUE] | None = None
    """Module names for targets: custom, such as q_proj."""
    experts: bool = False
    """Also adapt the experts of a mixture of experts."""
    modules_to_save: Annotated[list[ModuleName], items("set", least=1, most=16), UNIQUE] | None = None
    """Modules trained in full beside the adapter, such as embed_tokens or lm_head."""
    variant: Literal["standard", "rslora", "dora", "adalora"] = "standard"
    """Variant of LoRA: rank-stabilised, weight-decomposed, or with ranks that adapt."""
    initial_adapter: Source | None = None
    """Continue from this adapter; rank, alpha and targets come from it. Memory is planned for rank 16; preflight warns of more."""
    initial_adapter_credentials: Credentials | None = None
    """Secret with the token or keys to read the initial adapter."""


class EarlyStoppingSpec(Model):
    """Stop when the held-out loss no longer falls."""

    patience: Annotated[int, between(1, 1000)] = 3
    """Evaluations without improvement before stopping."""
    min_delta: LossDelta = "0.0"
    """Smallest fall of the loss that counts: a decimal in quotes such as "0.01"."""


class TrainingSpec(Model):
    """What is learned and how fast. Defaults depend on objective, method and model size; status.resolved shows them."""

    epochs: Annotated[int, between(1, 1000)] | None = None
    """Passes over the training rows; default 3 (cpt: 1)."""
    max_steps: Annotated[int, between(1, 100_000_000)] | None = None
    """Optimizer steps, instead of epochs."""
    learning_rate: LearningRate | None = None
    """Peak learning rate: a decimal in quotes such as "2e-4"."""
    scheduler: Literal["cosine", "linear", "constant"] | None = None
    """Shape of the learning rate after warm-up; default cosine."""
    warmup_fraction: HalfFraction = "0.03"
    """Share of the steps in which the learning rate rises: a decimal in quotes such as "0.03"."""
    weight_decay: WeightDecay | None = None
    """AdamW weight decay: a decimal in quotes; default "0.0" (cpt: "0.1")."""
    max_grad_norm: GradNorm = "1.0"
    """Gradients are clipped to this norm: a decimal in quotes; "0" turns clipping off."""
    global_batch_size: Annotated[int, between(1, 65536)] | None = None
    """Rows per optimizer step, over all GPUs. Default: the power of two nearest to rows x epochs / 200, 8 to 64."""
    sequence_length: Annotated[int, between(16, 1_048_576)] | None = None
    """Longest row in tokens. Default: covers 99 % of the rows, rounded up to 64, capped by the model (cpt: 4096)."""
    over_length: Literal["truncate", "drop", "error"] = "truncate"
    """What happens to longer rows; cpt always splits them."""
    packing: Literal["auto", "always", "never"] = "auto"
    """Put several rows into one sequence without leaking between them; auto does where it pays and the attention
    kernel allows."""
    precision: Literal["auto", "mixed", "bf16"] = "auto"
    """Precision of the weights: mixed keeps float32 masters (default of full); bf16 keeps bfloat16 only (default base
    of adapters)."""
    optimizer: Literal["auto", "adamw", "adamw-8bit", "paged-adamw-8bit"] = "auto"
    """Optimizer; auto is fused AdamW."""
    neftune_alpha: NeftuneAlpha | None = None
    """Noise on the embeddings while training (NEFTune): a decimal in quotes such as "5"; default off."""
    seed: Annotated[int, between(0, 2_147_483_647)] = 42
    """Seed of sampling, order and initialisation."""
    early_stopping: EarlyStoppingSpec | None = None
    """Stop when the held-out loss no longer falls; default never."""


class GateSpec(Model):
    """What the tuned model must reach to be called promoted."""

    min_relative_loss_improvement: Share
    """Least (base loss - tuned loss) / base loss: a decimal in quotes such as "0.02"."""


class SamplesSpec(Model):
    """Prompts answered by base and tuned model after training."""

    prompts: Annotated[list[Prompt], items("atomic", least=1, most=8)]
    """Prompts, each answered by both models."""
    max_new_tokens: Annotated[int, between(1, 1024)] = SAMPLE_TOKENS
    """Longest answer in tokens."""


class EvaluationSpec(Model):
    """The held-out measurement of base and tuned model on the same rows."""

    fraction: HalfFraction = str(HELD_OUT_FRACTION)
    """Share of the rows that is held out, by row hash: a decimal in quotes; "0" turns evaluation off."""
    source: DatasetSpec | None = None
    """A data set of its own instead of a fraction."""
    max_examples: Annotated[int, between(1, 100_000)] = HELD_OUT_ROWS
    """Most rows held out."""
    every_steps: Annotated[int, between(0, 100_000_000)] = 0
    """Evaluate each so many steps; 0: about twenty times per run."""
    baseline: bool = True
    """Measure the untouched base model too."""
    gate: GateSpec | None = None
    """What the tuned model must reach; sets the condition Promoted."""
    samples: SamplesSpec | None = None
    """Prompts answered by base and tuned model after training."""


class ResourcesSpec(Model):
    """Limits on what the planner may choose. All optional."""

    pools: Annotated[list[Name], items("set", least=1, most=32), UNIQUE] | None = None
    """GPUPools that may be used; default all."""
    gpus: Annotated[int, between(1, 4096)] | None = None
    """Exact number of GPUs."""
    max_gpus: Annotated[int, between(1, 4096)] | None = None
    """Largest number of GPUs."""
    capacity: Literal["any", "spot", "on-demand"] = "any"
    """Kind of capacity that may be used."""
    optimize_for: Literal["cost", "balanced", "time"] = "balanced"
    """Of the plans that fit: the cheapest, the fastest, or (balanced) the fastest within 15 % of the cheapest."""
    offload: Literal["auto", "none", "optimizer", "all"] = "auto"
    """Host memory for the states of method full (all: the weights too): slower; auto uses it where nothing else fits."""


class OutputSpec(Model):
    """Where the adapter or model goes."""

    destination: Destination
    """A folder: s3://BUCKET/PREFIX, pvc://CLAIM/PATH, hf://ORG/NAME, or file:///PATH (local cluster only)."""
    credentials: Credentials | None = None
    """Secret with the token or keys to write it."""


class CheckpointSpec(Model):
    """The resumable state of the run."""

    destination: Folder | None = None
    """A folder at s3://, pvc:// or file://. Default: .checkpoints in the output's; required where the output is hf://."""
    credentials: Credentials | None = None
    """Secret with the keys to read and write it; default: the output's."""
    interval_seconds: Annotated[int, between(0, 86_400)] = 0
    """Time between checkpoints; 0: from the plan, by checkpoint size and speed."""
    keep: Annotated[int, between(1, 100)] = 2
    """Number of complete checkpoints that are kept."""


class BudgetSpec(Model):
    """The money this job may spend."""

    max_cost_usd: Money
    """Suspend the job when its cost reaches this: a decimal in quotes such as "200.00". A raise lets it go on."""


class RunPolicySpec(Model):
    """Limits on trying, time, money and what is kept."""

    max_retries: Annotated[int, between(0, 100)] = 3
    """Attempts in a row without a newer checkpoint before the job fails."""
    active_deadline_seconds: Annotated[int, between(1, 31_536_000)] | None = None
    """Suspend the job after so many seconds of running time. A raise lets it go on."""
    budget: BudgetSpec | None = None
    """The money this job may spend; default no limit."""
    pod_retention_seconds: Annotated[int, between(0, 31_536_000)] = 86_400
    """Keep the Pods, and with them the logs, so long after the end."""
    ttl_seconds_after_finished: Annotated[int, between(0, 315_360_000)] | None = None
    """Delete the FineTuneJob so long after its end; default never. A GitOps tool would create it again."""


class FineTuneJobSpec(Model):
    """One fine-tuning run: a base model, data and a destination; everything else has a default."""

    model: ModelSpec
    """The base model."""
    datasets: Annotated[list[DatasetSpec], items("atomic", least=1, most=16)]
    """Rows to learn from; several are mixed by weight."""
    chat: ChatSpec = ChatSpec()
    """How conversations become text."""
    objective: Literal["sft", "cpt"] = "sft"
    """What is learned: sft learns answers; cpt continues pre-training on plain text."""
    method: Literal["auto", "lora", "qlora", "full"] = "auto"
    """Method: lora trains an adapter, qlora an adapter on a 4-bit base, full all weights; auto lets the planner
    decide and say why."""
    lora: LoraSpec = LoraSpec()
    """The adapter of methods lora and qlora."""
    training: TrainingSpec = TrainingSpec()
    """What is learned and how fast."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """The held-out measurement."""
    resources: ResourcesSpec = ResourcesSpec()
    """Limits on what the planner may choose."""
    output: OutputSpec
    """Where the result goes."""
    checkpoint: CheckpointSpec = CheckpointSpec()
    """The resumable state of the run."""
    service_account_name: Name | None = None
    """ServiceAccount of the Pods, for workload identity. Its token is not mounted for API use."""
    priority_class_name: Name | None = None
    """PriorityClass of the trainer Pods."""
    run_policy: RunPolicySpec = RunPolicySpec()
    """Limits on trying, time, money and what is kept."""
    plan_only: bool = False
    """Stop after the plan: no GPU is touched. Set it to false to go on."""
    suspend: bool = False
    """Checkpoint, give the GPUs back and wait."""
