"""FineTunePlan.plan and preflight.architecture: the pinned decision, and its summary in status. manifests/ sees only these values."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from finetune_operator.api.fields import Count, Decimal, Message, Name, ShortText, StatusModel, items
from finetune_operator.api.pool_pod import PoolPodSettings
from finetune_operator.api.pools import PROVISIONING_SECONDS, NodeSelectorTerm, Toleration


class ModelArchitecture(StatusModel):
    """The model's dimensions, as far as memory planning needs them. Parameter counts are exact."""

    model_type: ShortText
    """Model type, as in config.json."""
    num_parameters: Count
    """Parameters of the text decoder."""
    num_embedding_parameters: Count
    """Parameters of the input embeddings and the output head, counted once if they are tied."""
    num_active_parameters: Count
    """Parameters that are active for one token; equal to numParameters in a dense model."""
    hidden_size: Count
    """Width of the hidden states."""
    intermediate_size: Count
    """Width of the MLP, or of one expert in a mixture-of-experts model."""
    num_layers: Count
    """Number of decoder layers."""
    num_attention_heads: Count
    """Number of query heads."""
    num_key_value_heads: Count
    """Number of key and value heads."""
    head_dim: Count
    """Width of one attention head."""
    vocab_size: Count
    """Vocabulary size."""
    max_position_embeddings: Count
    """Maximum sequence length that the model supports."""
    tied_embeddings: bool
    """Whether the output head shares its weights with the embeddings."""
    num_experts: Count = 0
    """Experts per layer; 0 in a dense model."""
    experts_per_token: Count = 0
    """Experts that are active for one token."""
    config: Annotated[str, StringConstraints(max_length=4096)]
    """The parts of config.json that these numbers were derived from, as JSON."""


class PoolNodes(StatusModel):
    """The nodes of a pool, as they were when they were chosen. Later changes to the GPUPool do not affect the job."""

    name: Name
    """Name of the GPUPool."""
    gpu_type: ShortText
    """Catalogue name of the GPU."""
    resource_name: ShortText
    """Extended resource that the Pods request."""
    node_selector: Annotated[list[NodeSelectorTerm], items("atomic", most=16)] = []
    """Labels that select the pool's nodes."""
    tolerations: Annotated[list[Toleration], items("atomic", most=16)] = []
    """Tolerations for the taints of the pool's nodes."""


class PoolSnapshot(PoolNodes):
    """The pool as it was at planning time. Later changes to the GPUPool do not affect the job."""

    pod: PoolPodSettings = PoolPodSettings()
    """What the Pods have beside their GPUs."""
    capacity: Literal["on-demand", "spot"]
    """Capacity type."""
    price_per_gpu_hour_usd: Decimal
    """Price of one GPU per hour, used for every attempt of this job."""
    provisioning_seconds: Count = PROVISIONING_SECONDS
    """How long a run on several nodes waits for all of them, in seconds."""


class VramEstimate(StatusModel):
    """Estimated peak memory of the fullest GPU in GiB, by component. The components add up to totalGiB."""

    weights_gib: Decimal
    """Base model weights, quantised for method qlora."""
    adapter_gib: Decimal
    """Adapter weights; 0 for method full."""
    gradients_gib: Decimal
    """Gradients that exist at the peak."""
    optimizer_gib: Decimal
    """Optimizer states and float32 master weights."""
    activations_gib: Decimal
    """Saved activations and the working memory of one layer."""
    logits_gib: Decimal
    """Logits and loss over the vocabulary."""
    overhead_gib: Decimal
    """CUDA context, communication buffers and allocator fragmentation."""
    total_gib: Decimal
    """Total, as nvidia-smi would report it."""
    request_gib: Decimal
    """Total plus the safety margin. This must fit."""
    usable_gib: Decimal
    """Memory of the GPU, as PyTorch reports it."""
    peak: Literal["loading", "training"] = "training"
    """When the peak occurs: while the weights are loaded, or in a training step."""
    confidence: Literal["high", "medium", "low"]
    """How well measurements cover this case."""
    confidence_reason: ShortText = ""
    """Why confidence is not high."""


class HostNeeds(StatusModel):
    """What one Pod needs besides its GPUs."""

    memory_gib: Count
    """Host memory in GiB."""
    cpus: Count
    """CPU cores."""
    ephemeral_gib: Count
    """Local disk for model, data and checkpoints, in GiB."""
    shm_gib: Count
    """Shared memory at /dev/shm, in GiB."""


class ExportPlan(StatusModel):
    """The Pod without GPUs that makes the forms in output.exports after training, and may publish the model of a full fine-tune first."""

    publishes: bool = False
    """Whether the Pod publishes the model, from the last checkpoint: no GPU waits until it is uploaded. Then memory, disk, time and size
    include it."""

    memory_gib: Count
    """Host memory in GiB."""
    cpus: Count
    """CPU cores."""
    ephemeral_gib: Count
    """Local disk for the model and the forms made of it, in GiB."""
    seconds: Count
    """Estimated time in seconds. No GPU is held, so it is not part of the estimated cost."""
    size_gib: Decimal
    """Size of all forms together in GiB."""


class CheckpointPlan(StatusModel):
    """How often checkpoints are saved, and what losing a node costs."""

    size_gib: Decimal
    """Size of one checkpoint in GiB."""
    save_seconds: Count
    """Time to write one checkpoint, in seconds."""
    interval_seconds: Count
    """Time between checkpoints, in seconds."""
    grace_seconds: Count
    """Termination grace period of the Pods in seconds."""
    loss_on_reclaim_seconds: Count
    """Work lost if a node is reclaimed with the usual notice, in seconds."""


class CostEstimate(StatusModel):
    """Estimated time and cost: tokens x epochs / tokensPerSecond is the time; time x GPUs x price is the cost."""

    tokens_per_second: Decimal
    """Throughput of all GPUs together, not counting padding."""
    model_flop_utilisation: Decimal | None = None
    """Predicted share of the GPUs' peak that the throughput uses. Absent for CPUs and unknown GPUs."""
    seconds: Count
    """Estimated time from start to published result, in seconds. Without that of the Pod in export."""
    gpu_hours: Decimal
    """GPU-hours, including start-up, and publishing unless export publishes."""
    cost_usd: Decimal
    """Estimated cost: gpuHours times the price of the pool."""
    low_usd: Decimal
    """Lower end of the likely cost range."""
    high_usd: Decimal
    """Upper end of the likely cost range."""
    confidence: Literal["high", "medium", "low"] = "medium"
    """How well measurements cover time and cost of this case. It determines the range."""
    confidence_reason: ShortText = ""
    """Why confidence is not high."""


class Alternative(StatusModel):
    """Another layout, with its cost or the reason it was rejected."""

    summary: ShortText
    """Method and GPUs."""
    seconds: Count | None = None
    """Estimated time from start to published result, in seconds."""
    cost_usd: Decimal | None = None
    """Estimated cost in US dollars."""
    rejected: Message | None = None
    """Why it was rejected."""


class Plan(StatusModel):
    """The layout chosen for the run, written before anything is created. Little changes it later, each time with a
    warning: after an attempt runs out of GPU memory, the next one uses a smaller micro batch with the same global batch;
    after one runs out of host memory or local disk, the next one gets 50 % more of it, up to what a node of the pool has.
    Before the first checkpoint another layout or pool may replace it (lack of GPU memory, resources.failover).
    """

    summary: ShortText
    """Method and GPUs, in one line."""
    method: Literal["lora", "qlora", "full"]
    """Training method."""
    method_reason: Message = ""
    """Why this method was chosen."""
    pool: PoolSnapshot
    """Where the Pods run, and what a GPU costs."""
    quotas: Annotated[list[Message], items("atomic", most=8)] = []
    """What the run takes of each ResourceQuota of its namespace, such as 8 of 8 GPUs of quota team-a."""
    replicas: Count
    """Number of trainer Pods, one per node."""
    gpus_per_replica: Count
    """GPUs per trainer Pod."""
    zero_stage: Literal[0, 2, 3]
    """DeepSpeed ZeRO stage; 0 is plain data parallelism."""
    offload: Literal["none", "optimizer", "all"]
    """States that are kept in host memory."""
    activation_checkpointing: bool
    """Whether activations are recomputed instead of stored."""
    attention: Literal["varlen", "sdpa", "eager"]
    """Attention: varlen (rows end to end, without padding or masks), sdpa (padded or masked rows), or eager."""
    loss_kernel: Literal["tiled", "full"]
    """Whether the logits are computed in tiles."""
    precision: Literal["mixed", "bf16"]
    """Precision of the weights."""
    optimizer: Literal["adamw", "adamw-8bit", "paged-adamw-8bit"]
    """Optimizer."""
    packing: bool
    """Whether several rows are packed into one sequence."""
    micro_batch_size: Count
    """Rows per GPU in one forward pass."""
    gradient_accumulation_steps: Count
    """Micro batches per optimizer step."""
    global_batch_size: Count
    """Rows per optimizer step: microBatchSize x gradientAccumulationSteps x GPUs."""
    steps: Count
    """Optimizer steps in the whole run."""
    tokens_per_step: Count
    """Average tokens per optimizer step."""
    evaluate_every_steps: Count
    """Steps between evaluations. 0 means only at the end."""
    answers_at_once: Count = 1
    """Held-out rows that a GPU answers at once to measure evaluation.metrics, by the memory that training leaves unused then."""
    num_trainable_parameters: Count
    """Number of trainable parameters."""
    flops_per_token: Count = 0
    """Floating-point operations that the method needs for one trained token. Recomputation and padding do not count."""
    peak_tflops_per_gpu: Decimal | None = None
    """Nominal dense 16-bit TFLOP/s of one GPU, which utilisation is measured against. Absent for CPUs and unknown GPUs."""
    vram: VramEstimate
    """Estimated memory of the fullest GPU."""
    host: HostNeeds
    """What one Pod needs besides its GPUs."""
    checkpoint: CheckpointPlan
    """Checkpoint schedule."""
    export: ExportPlan | None = None
    """The Pod that publishes the model or makes the forms in output.exports. Absent if there is nothing for it to do."""
    estimate: CostEstimate
    """Estimated time and cost."""
    image: ShortText = ""
    """Trainer image, used by every attempt."""
    alternatives: Annotated[list[Alternative], items("atomic", most=5)] = []
    """Other layouts that were considered."""
    warnings: Annotated[list[Message], items("atomic", most=16)] = []
    """Things to know before the run starts."""


class PoolSummary(StatusModel):
    """Where the Pods run, and what a GPU costs."""

    name: Name
    """Name of the GPUPool."""
    capacity: Literal["on-demand", "spot"] = "on-demand"
    """Capacity type. Absent where it is on-demand."""
    price_per_gpu_hour_usd: Decimal
    """Price of one GPU per hour, used for every attempt of this job."""


class EstimateSummary(StatusModel):
    """Estimated time and cost."""

    seconds: Count
    """Estimated time from start to published result, in seconds."""
    cost_usd: Decimal
    """Estimated cost."""


class PlanSummary(StatusModel):
    """The plan in short. The whole plan is in the FineTunePlan that planName names."""

    summary: ShortText
    """Method and GPUs, in one line."""
    pool: PoolSummary
    """Where the Pods run, and what a GPU costs."""
    replicas: Count = 1
    """Number of trainer Pods, one per node. Absent where it is 1."""
    gpus_per_replica: Count = 1
    """GPUs per trainer Pod. Absent where it is 1."""
    estimate: EstimateSummary | None = None
    """Estimated time and cost, until the job has finished."""
    warnings: Annotated[list[Message], items("atomic", most=16)] = []
    """Things to know before the run starts."""
