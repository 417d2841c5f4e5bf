"""status.plan and status.preflight.architecture: the pinned decision. manifests/ sees nothing but these values."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from finetune_operator.api.fields import Count, Decimal, Message, Name, ShortText, StatusModel, items
from finetune_operator.api.pools import PROVISIONING_SECONDS, NodeSelectorTerm, Toleration


class ModelArchitecture(StatusModel):
    """The shape of a decoder, as sizing needs it. Counts are exact numbers of parameters."""

    model_type: ShortText
    """The model_type of config.json."""
    num_parameters: Count
    """All parameters of the text decoder."""
    num_embedding_parameters: Count
    """Input embeddings and output head (once where they are tied)."""
    num_active_parameters: Count
    """Parameters that one token passes through (equal to num_parameters without experts)."""
    hidden_size: Count
    """Width of the residual stream."""
    intermediate_size: Count
    """Width of the MLP (of one expert, in a mixture of experts)."""
    num_layers: Count
    """Decoder layers."""
    num_attention_heads: Count
    """Query heads."""
    num_key_value_heads: Count
    """Key and value heads."""
    head_dim: Count
    """Width of one head."""
    vocab_size: Count
    """Rows of the embedding."""
    max_position_embeddings: Count
    """Longest sequence that the model was made for."""
    tied_embeddings: bool
    """Head and embedding share their weights."""
    num_experts: Count = 0
    """Experts of a layer; 0 without."""
    experts_per_token: Count = 0
    """Experts that one token passes through."""
    config: Annotated[str, StringConstraints(max_length=4096)]
    """The keys of config.json that these numbers were derived from, as JSON."""


class PoolSnapshot(StatusModel):
    """The pool as it was when the plan was made: later edits of the GPUPool do not reshape a running job."""

    name: Name
    """GPUPool."""
    gpu_type: ShortText
    """Catalogue name of the GPU."""
    resource_name: ShortText
    """Extended resource that the Pods ask for."""
    node_selector: Annotated[list[NodeSelectorTerm], items("atomic", most=16)] = []
    """Labels of the pool's nodes."""
    tolerations: Annotated[list[Toleration], items("atomic", most=16)] = []
    """Taints of the pool's nodes."""
    capacity: Literal["on-demand", "spot"]
    """Kind of capacity."""
    price_per_gpu_hour_usd: Decimal
    """Price used for every attempt of this job."""
    provisioning_seconds: Count = PROVISIONING_SECONDS
    """How long several replicas may wait for their nodes."""


class VramEstimate(StatusModel):
    """Memory of the fullest GPU at its peak, by term, in GiB. The terms add up to totalGiB."""

    weights_gib: Decimal
    """Base weights, quantised where the method says so."""
    adapter_gib: Decimal
    """Adapter weights; 0 for method full."""
    gradients_gib: Decimal
    """Gradients alive at the peak."""
    optimizer_gib: Decimal
    """Optimizer states and float32 masters."""
    activations_gib: Decimal
    """Saved activations and the working set of one layer."""
    logits_gib: Decimal
    """The loss over the vocabulary."""
    overhead_gib: Decimal
    """CUDA context, communication buffers, allocator slack."""
    total_gib: Decimal
    """What the card will show."""
    request_gib: Decimal
    """Total with the safety margin: what must fit."""
    usable_gib: Decimal
    """What the card has, as PyTorch reports it."""
    confidence: Literal["high", "medium", "low"]
    """How well this case is covered by measurements."""
    confidence_reason: ShortText = ""
    """Why it is not high."""


class HostNeeds(StatusModel):
    """What one Pod needs beside its GPUs."""

    memory_gib: Count
    """Host memory."""
    cpus: Count
    """CPU cores."""
    ephemeral_gib: Count
    """Local disk for model, data and checkpoints."""
    shm_gib: Count
    """Shared memory, at /dev/shm."""


class CheckpointPlan(StatusModel):
    """How the run is made safe against losing its node."""

    size_gib: Decimal
    """One checkpoint."""
    save_seconds: Count
    """Time to write it."""
    interval_seconds: Count
    """Time between checkpoints."""
    grace_seconds: Count
    """Value of terminationGracePeriodSeconds of the Pods."""
    loss_on_reclaim_seconds: Count
    """Work lost when a node is reclaimed on its usual notice."""


class CostEstimate(StatusModel):
    """tokens x epochs / tokens per second = time; time x GPUs = GPU-hours; GPU-hours x price = cost."""

    tokens_per_second: Decimal
    """Over all GPUs, padding not counted."""
    seconds: Count
    """From start to published result."""
    gpu_hours: Decimal
    """Hours for which GPUs are held."""
    cost_usd: Decimal
    """Cost: gpuHours times the pool's price."""
    low_usd: Decimal
    """Lower end of the range."""
    high_usd: Decimal
    """Upper end of the range."""
    confidence: Literal["high", "medium", "low"] = "medium"
    """How well time and cost of this case are covered by measurements: it sets the range."""
    confidence_reason: ShortText = ""
    """Why it is not high."""


class Alternative(StatusModel):
    """Another layout: what it would cost, or why it was refused."""

    summary: ShortText
    """Method and GPUs."""
    seconds: Count | None = None
    """Time to the result."""
    cost_usd: Decimal | None = None
    """Estimated cost."""
    rejected: Message | None = None
    """Why it was refused."""


class Plan(StatusModel):
    """The layout chosen for the run. Written before anything is created. Two things change it afterwards, each with a
    warning: an attempt that ran out of GPU memory leaves a leaner layout of the same global batch, and one that ran out
    of host memory or local disk leaves half as much again of it, at most what a node of the pool has.
    """

    summary: ShortText
    """Method and GPUs in one line."""
    method: Literal["lora", "qlora", "full"]
    """Chosen method."""
    method_reason: Message = ""
    """Why this method."""
    pool: PoolSnapshot
    """Where the Pods run and what a GPU costs."""
    replicas: Count
    """Pods, one per node."""
    gpus_per_replica: Count
    """GPUs of one Pod."""
    zero_stage: Literal[0, 2, 3]
    """DeepSpeed ZeRO stage; 0 is plain data parallelism."""
    offload: Literal["none", "optimizer", "all"]
    """What is kept in host memory."""
    activation_checkpointing: bool
    """Activations are computed again instead of kept."""
    attention: Literal["sdpa", "eager", "flash_attention_2"]
    """Attention kernel."""
    loss_kernel: Literal["tiled", "full"]
    """Whether the logits are built in tiles."""
    precision: Literal["mixed", "bf16"]
    """Precision of weights and compute."""
    optimizer: Literal["adamw", "adamw-8bit", "paged-adamw-8bit"]
    """Optimizer."""
    packing: bool
    """Several rows share a sequence."""
    micro_batch_size: Count
    """Rows per GPU and forward pass."""
    gradient_accumulation_steps: Count
    """Micro batches per optimizer step."""
    global_batch_size: Count
    """Rows per optimizer step: micro batch x accumulation x GPUs."""
    steps: Count
    """Optimizer steps of the whole run."""
    tokens_per_step: Count
    """Mean tokens per optimizer step."""
    evaluate_every_steps: Count
    """Evaluation cadence; 0: only at the end."""
    num_trainable_parameters: Count
    """Parameters with gradients."""
    vram: VramEstimate
    """Memory of the fullest GPU."""
    host: HostNeeds
    """What one Pod needs beside its GPUs."""
    checkpoint: CheckpointPlan
    """How the run is made safe."""
    estimate: CostEstimate
    """Time and money."""
    image: ShortText = ""
    """Trainer image of every attempt."""
    alternatives: Annotated[list[Alternative], items("atomic", most=5)] = []
    """Other layouts that were considered."""
    warnings: Annotated[list[Message], items("atomic", most=16)] = []
    """What the user should know."""
