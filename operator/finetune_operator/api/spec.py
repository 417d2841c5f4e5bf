"""FineTuneJob.spec: what `kubectl explain ftj.spec` prints. Static defaults live here, some of them in the contract."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from finetune_operator.api.data import ChatSpec, Credentials, DatasetSpec
from finetune_operator.api.evaluation import EvaluationSpec
from finetune_operator.api.fields import UNIQUE, Model, Name, between, items, items_by
from finetune_operator.api.locations import Destination, Folder, Source
from finetune_operator.api.merging import MergeOfSpec
from finetune_operator.api.pool_pod import PodAnnotation, PodLabel
from finetune_operator.api.trackers import TrackerSpec, unique_types
from finetune_operator.api.values import (
    Dropout,
    GradNorm,
    HalfFraction,
    LearningRate,
    LossDelta,
    ModuleName,
    Money,
    NeftuneAlpha,
    Revision,
    WeightDecay,
)


class ModelSpec(Model):
    """The base model."""

    source: Source
    """Where the model is: hf://ORG/NAME, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://ACCOUNT/CONTAINER/PREFIX,
    oci://HOST/REPOSITORY:TAG or oci://HOST/REPOSITORY@sha256:DIGEST, pvc://CLAIM/PATH, or file:///PATH (local cluster only)."""
    revision: Revision | None = None
    """Commit, tag or branch of a hub model. status.preflight.modelRevision records the commit it resolves to."""
    credentials: Credentials | None = None
    """Secret with the credentials for reading source."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the model. Requires revision to be a full commit id."""


class LoraSpec(Model):
    """Adapter settings for methods lora and qlora."""

    rank: Annotated[int, between(1, 1024)] = 16
    """LoRA rank: 16 to 32 suits most tasks, 64 to 128 larger changes in behaviour."""
    alpha: Annotated[int, between(1, 4096)] | None = None
    """LoRA alpha. Default: twice the rank, or the rank itself for variant rslora."""
    dropout: Dropout = "0.0"
    """Dropout on the input of the adapter: a decimal in quotes such as "0.05"."""
    targets: Literal["all-linear", "attention", "custom"] = "all-linear"
    """Linear layers that get an adapter. The router of a mixture-of-experts model never gets one."""
    target_modules: Annotated[list[ModuleName], items("set", least=1, most=64), UNIQUE] | None = None
    """Modules that get an adapter when targets is custom, such as q_proj."""
    experts: bool = False
    """Also adapt the experts of a mixture-of-experts model."""
    modules_to_save: Annotated[list[ModuleName], items("set", least=1, most=16), UNIQUE] | None = None
    """Modules trained in full alongside the adapter, such as embed_tokens or lm_head."""
    variant: Literal["standard", "rslora", "dora", "adalora"] = "standard"
    """LoRA variant: standard, rank-stabilised (rslora), weight-decomposed (dora) or adaptive-rank (adalora)."""
    initial_adapter: Source | None = None
    """Continue training this adapter; rank, alpha and targets come from it. Memory is planned for rank 16; preflight
    warns if the rank is higher."""
    initial_adapter_credentials: Credentials | None = None
    """Secret with the credentials for reading initialAdapter."""


class EarlyStoppingSpec(Model):
    """Stop when the held-out loss stops improving."""

    patience: Annotated[int, between(1, 1000)] = 3
    """Consecutive evaluations without improvement before training stops."""
    min_delta: LossDelta = "0.0"
    """Smallest decrease in loss that counts as an improvement: a decimal in quotes such as "0.01"."""


class TrainingSpec(Model):
    """Training hyperparameters. Defaults depend on objective, method and model size; status.resolved shows them."""

    epochs: Annotated[int, between(1, 1000)] | None = None
    """Passes over the training rows. Default: 3, or 1 for cpt."""
    max_steps: Annotated[int, between(1, 100_000_000)] | None = None
    """Number of optimizer steps, instead of epochs."""
    learning_rate: LearningRate | None = None
    """Peak learning rate: a decimal in quotes such as "2e-4"."""
    scheduler: Literal["cosine", "linear", "constant"] | None = None
    """Learning rate schedule after warm-up. Default: cosine."""
    warmup_fraction: HalfFraction = "0.03"
    """Fraction of the steps used for warm-up: a decimal in quotes such as "0.03"."""
    weight_decay: WeightDecay | None = None
    """AdamW weight decay: a decimal in quotes. Default: "0.0", or "0.1" for cpt."""
    max_grad_norm: GradNorm = "1.0"
    """Maximum gradient norm; larger gradients are clipped: a decimal in quotes. "0" turns clipping off."""
    global_batch_size: Annotated[int, between(1, 65536)] | None = None
    """Rows per optimizer step across all GPUs. Default: the power of two nearest to rows x epochs / 200, from 8 to 64."""
    sequence_length: Annotated[int, between(16, 1_048_576)] | None = None
    """Maximum row length in tokens. Default: fits 99 % of the rows, as a multiple of 64, within the model's limit (cpt: 4096)."""
    over_length: Literal["truncate", "drop", "error"] = "truncate"
    """What to do with longer rows: truncate them, drop them, or fail the job. cpt always splits them."""
    packing: Literal["auto", "always", "never"] = "auto"
    """Pack several rows, isolated from each other, into one sequence. auto packs if it pays off and the kernel supports it."""
    precision: Literal["auto", "mixed", "bf16"] = "auto"
    """Precision of the weights: mixed keeps float32 master weights (default for method full); bf16 keeps bfloat16 only
    (default for the base model under an adapter)."""
    optimizer: Literal["auto", "adamw", "adamw-8bit", "paged-adamw-8bit"] = "auto"
    """Optimizer. auto is fused AdamW."""
    neftune_alpha: NeftuneAlpha | None = None
    """NEFTune noise added to the embeddings during training: a decimal in quotes such as "5". Default: off."""
    seed: Annotated[int, between(0, 2_147_483_647)] = 42
    """Seed for sampling, row order and initialisation."""
    early_stopping: EarlyStoppingSpec | None = None
    """Stop when the held-out loss stops improving. Default: train to the end."""


class ResourcesSpec(Model):
    """Limits on what the planner may choose. All are optional."""

    pools: Annotated[list[Name], items("set", least=1, most=32), UNIQUE] | None = None
    """GPUPools that may be used. Default: all."""
    gpus: Annotated[int, between(1, 4096)] | None = None
    """Exact number of GPUs."""
    max_gpus: Annotated[int, between(1, 4096)] | None = None
    """Maximum number of GPUs."""
    capacity: Literal["any", "spot", "on-demand"] = "any"
    """Capacity that may be used: spot, on-demand or any."""
    optimize_for: Literal["cost", "balanced", "time"] = "balanced"
    """Plan to choose among those that fit: the cheapest, the fastest, or (balanced) the fastest within 15 % of the cheapest."""
    failover: bool = False
    """Before the first step, move to another pool if the chosen one has no free nodes for its provisioningSeconds."""
    offload: Literal["auto", "none", "optimizer", "all"] = "auto"
    """Training state of method full to keep in host memory, which is slower. auto offloads only if nothing else fits."""


ExportForm = Literal["merged", "gguf-f16", "gguf-q8_0", "gguf-q4_k_m"]


class OutputSpec(Model):
    """Where the adapter or model is published."""

    destination: Destination
    """A folder: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://ACCOUNT/CONTAINER/PREFIX, pvc://CLAIM/PATH, hf://ORG/NAME, or file:///PATH
    (local cluster only). Or a tag of a registry: oci://HOST/REPOSITORY:TAG."""
    credentials: Credentials | None = None
    """Secret with the credentials for writing to destination."""
    exports: Annotated[list[ExportForm], items("set", least=1, most=4), UNIQUE] | None = None
    """Further forms of the result, made after training by a Pod without GPUs: merged (adapter and base model in one, 16 bit),
    gguf-f16, gguf-q8_0 and gguf-q4_k_m (merged, for llama.cpp). The adapter or model itself is always published."""


class CheckpointSpec(Model):
    """Where and how often checkpoints are saved."""

    destination: Folder | None = None
    """A folder at s3://, gs://, az://, pvc:// or file://. Default: .checkpoints in the output folder. Required if the output is hf://
    or oci://."""
    credentials: Credentials | None = None
    """Secret with the credentials for reading and writing destination. Default: the output's."""
    interval_seconds: Annotated[int, between(0, 86_400)] = 0
    """Seconds between checkpoints. 0 lets the planner choose, by checkpoint size and speed."""
    keep: Annotated[int, between(1, 100)] = 2
    """Number of complete checkpoints to keep."""


class BudgetSpec(Model):
    """The most that this job may cost."""

    max_cost_usd: Money
    """Maximum cost: a decimal in quotes such as "200.00". The job is suspended when it is reached; raise the value to continue."""


class RunPolicySpec(Model):
    """Limits on retries, running time and cost, and how long finished objects are kept."""

    max_retries: Annotated[int, between(0, 100)] = 3
    """Consecutive attempts without a newer checkpoint before the job fails."""
    active_deadline_seconds: Annotated[int, between(1, 31_536_000)] | None = None
    """Maximum running time in seconds. The job is suspended when it is reached; raise the value to continue."""
    budget: BudgetSpec | None = None
    """The most that this job may cost. Default: no limit."""
    pod_retention_seconds: Annotated[int, between(0, 31_536_000)] = 86_400
    """How long to keep finished Pods, in seconds. Their logs stay beside the checkpoints."""
    ttl_seconds_after_finished: Annotated[int, between(0, 315_360_000)] | None = None
    """Delete the FineTuneJob this many seconds after it finishes. Default: never. Ignored for a job that Argo CD or Flux
    applies: they would create it again."""


class PodMetadata(Model):
    """Labels and annotations of the job's Pods: cost centres, queues, service meshes."""

    labels: Annotated[list[PodLabel], items_by("key", most=16), UNIQUE] = []
    """Labels of all Pods of the job. Those that the operator sets itself win."""
    annotations: Annotated[list[PodAnnotation], items_by("key", most=16), UNIQUE] = []
    """Annotations of all Pods of the job."""


class FineTuneJobSpec(Model):
    """One fine-tuning run. It needs a base model, data and a destination; everything else has a default."""

    model: ModelSpec
    """The base model."""
    datasets: Annotated[list[DatasetSpec], items("atomic", least=1, most=16)]
    """Training data. Several datasets are mixed by weight."""
    chat: ChatSpec = ChatSpec()
    """How conversations are turned into text."""
    objective: Literal["sft", "cpt"] = "sft"
    """Training objective: sft learns to answer prompts; cpt continues pre-training on plain text."""
    method: Literal["auto", "lora", "qlora", "full"] = "auto"
    """Training method: lora trains an adapter, qlora an adapter on a 4-bit base model, full all weights. auto lets the
    planner choose; status.plan.methodReason says why."""
    lora: LoraSpec = LoraSpec()
    """Adapter settings for methods lora and qlora."""
    merge_of: MergeOfSpec | None = None
    """Merge adapters of the base model instead of training one. datasets are then the rows that base and merged adapter are compared on."""
    training: TrainingSpec = TrainingSpec()
    """Training hyperparameters."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """How the base and the tuned model are compared on held-out rows."""
    resources: ResourcesSpec = ResourcesSpec()
    """Limits on what the planner may choose."""
    output: OutputSpec
    """Where the adapter or model is published."""
    checkpoint: CheckpointSpec = CheckpointSpec()
    """Where and how often checkpoints are saved."""
    trackers: Annotated[list[TrackerSpec], items_by("type", most=4), AfterValidator(unique_types)] = []
    """Places that show the figures of every step while the job trains."""
    service_account_name: Name | None = None
    """ServiceAccount of the Pods, for workload identity. Its Kubernetes API token is not mounted."""
    priority_class_name: Name | None = None
    """PriorityClass of the trainer Pods."""
    queue_name: Name | None = None
    """LocalQueue of Kueue in which each attempt waits for its GPUs. Needs rbac.kueue in the chart."""
    managed_by: Literal["finetune.dev/operator", "kueue.x-k8s.io/multikueue"] = "finetune.dev/operator"
    """Who runs the job. With kueue.x-k8s.io/multikueue the operator of this cluster leaves it to one in another cluster."""
    pod_metadata: PodMetadata = PodMetadata()
    """Labels and annotations of the job's Pods."""
    run_policy: RunPolicySpec = RunPolicySpec()
    """Limits on retries, running time and cost, and how long finished objects are kept."""
    plan_only: bool = False
    """Stop after planning, before any GPU is used. Set it to false to continue."""
    suspend: bool = False
    """Save a checkpoint, release the GPUs and wait. Set it to false to resume."""
