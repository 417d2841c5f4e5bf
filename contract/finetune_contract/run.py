"""What goes in: PreflightConfig and RunConfig, written by the operator into an annotation of the Pod. Part of contract.

A field that is added has a default with which a run is what it was before, and a default never changes: run_file says why.
"""

from dataclasses import dataclass, field

from finetune_contract.data import Dataset, Location
from finetune_contract.measuring import Evaluation
from finetune_contract.run_file import OPTIONAL
from finetune_contract.served import ServingFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The base model."""

    location: Location
    revision: str = ""
    """Commit of a hub model; empty: the default branch (preflight resolves it)."""
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """How conversations become text."""

    template: str = "auto"
    """auto (the tokenizer's own) | chatml"""
    template_source: Location | None = None
    """A file with a template instead."""
    template_arguments: dict[str, str] = field(default_factory=dict)
    """Variables of the template."""
    system_prompt: str = ""
    train_on: str = "assistant"
    """assistant | last | all"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightConfig:
    """All that the preflight Pod is told."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec_digest: str
    """sha256 of the training-relevant spec; preflight adds model revision and dataset digest to get the run digest."""
    model: Model
    datasets: tuple[Dataset, ...]
    chat: Chat
    objective: str
    """sft | cpt"""
    sequence_length: int
    """0: cover 99 % of the rows, rounded up to 64, capped by the model."""
    over_length: str
    """truncate | drop | error"""
    seed: int
    evaluation: Evaluation
    output: Location
    checkpoint: Location
    initial_adapter: Location | None = None
    merged_adapters: tuple[Location, ...] = ()
    """That become one adapter instead of training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedAdapter:
    """One of the adapters that are combined."""

    location: Location
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CombineConfig:
    """Which adapters become one, and how."""

    adapters: tuple[WeightedAdapter, ...]
    method: str
    """average | linear | svd | ties | dare"""
    rank: int
    """LoRA rank of the result; 0: what the method needs to be exact, or the largest rank of the adapters."""
    density: float
    """ties, dare: share of the values that is kept."""
    seed: int
    """dare: which values are dropped."""
    output: Location


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """All that an export Pod is told: which further forms to make of a published result, or of adapters that it merges first."""

    namespace: str
    name: str
    uid: str
    number: int
    """Of the Pod, from 0."""
    run_digest: str
    model: Model
    output: Location
    checkpoint: Location
    """Where its log is kept."""
    exports: tuple[str, ...]
    """merged | gguf-f16 | gguf-q8_0 | gguf-q4_k_m"""
    merge: "RunConfig | None" = None
    """How adapters are merged and measured first, where nothing was trained."""
    serving: ServingFacts | None = None
    """What serves the result; None: nothing was planned here, and the facts of the run that published it hold."""
    handed_over_by: int | None = None
    """The attempt whose model is published first; None: the result is published already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatConfig:
    """What a conversation in the terminal is about."""

    model: Model
    """The base model."""
    folder: str
    """Where the result lies on this machine."""
    kind: str
    """adapter | merged | model"""
    cache: str
    """Folder for what must be fetched."""
    compare: bool = False
    """Also ask the base model."""
    max_new_tokens: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """The adapter's shape."""

    rank: int
    alpha: int
    dropout: float
    targets: str
    """all-linear | attention | custom"""
    target_modules: tuple[str, ...] = ()
    experts: bool = False
    modules_to_save: tuple[str, ...] = ()
    variant: str = "standard"
    """standard | rslora | dora | adalora"""
    initial_adapter: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What is learned and how fast; nothing here depends on the GPUs."""

    epochs: int
    max_steps: int
    """Total optimizer steps as planned; a resumed run ends at the same step."""
    learning_rate: float
    scheduler: str
    warmup_fraction: float
    weight_decay: float
    max_grad_norm: float
    global_batch_size: int
    sequence_length: int
    over_length: str
    packing: bool
    precision: str
    """mixed (float32 masters, bfloat16 compute) | bf16"""
    optimizer: str
    """adamw | adamw-8bit | paged-adamw-8bit"""
    neftune_alpha: float
    """0: off"""
    seed: int
    early_stopping_patience: int
    """Evaluations without improvement; 0: off"""
    early_stopping_min_delta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the plan spreads the run over GPUs."""

    replicas: int
    gpus_per_replica: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    zero_stage: int
    """0 (data parallel), 2 or 3 (DeepSpeed)"""
    offload: str
    """none | optimizer | all"""
    activation_checkpointing: bool
    attention: str
    """varlen (rows end to end, without masks) | sdpa | eager"""
    loss_kernel: str
    """tiled (TRL's chunked head) | full"""
    answers_at_once: int = 1
    """Prompts in one batch of generation."""
    flops_per_token: int = 0
    """Operations that the method needs for one trained token."""
    peak_tflops_per_gpu: float = 0.0
    """Nominal; 0: not known, or a CPU. Then no utilisation is reported."""

    @property
    def world_size(self) -> int:
        """Processes in all, one per GPU."""
        return self.replicas * self.gpus_per_replica


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpointing:
    """Where and how often the resumable state is kept."""

    location: Location
    keep: int
    interval_seconds: int
    """0: only on SIGTERM and suspend"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracker:
    """Where the figures of a run are shown while it runs."""

    type: str
    """mlflow | tensorboard | trackio | wandb"""
    location: Location
    """Of the server; empty for files, and for the service of wandb's maker."""
    project: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSoFar:
    """What the earlier attempts of a job cost, and the price of this one."""

    gpu_seconds: int
    cost_usd: str
    """Each attempt at the price of its plan."""
    price_per_gpu_hour_usd: str | None = None
    """None: the pool has no price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """All that a trainer Pod is told: the resolved spec and the plan, as pinned in status."""

    namespace: str
    name: str
    uid: str
    attempt: int
    run_digest: str
    dataset_digest: str
    model: Model
    datasets: tuple[Dataset, ...]
    chat: Chat
    objective: str
    method: str
    """lora | qlora | full"""
    lora: Lora | None = None
    training: Training
    evaluation: Evaluation
    layout: Layout
    checkpoint: Checkpointing
    output: Location
    prepared: Location | None = None
    """The data set that preflight tokenised, where there was storage to share."""
    trackers: tuple[Tracker, ...] = ()
    combine: CombineConfig | None = None
    """Adapters that become one; nothing is trained then."""
    serving: ServingFacts | None = None
    """What serves the result; None where no nodes were chosen."""
    cost_so_far: CostSoFar | None = field(default=None, metadata=OPTIONAL)
    """None where nothing is trained."""
    provenance: dict[str, str] = field(default_factory=dict)
    """Versions and digests the operator wants in the manifest: operator version, image, plan summary."""
    hand_over: bool = field(default=False, metadata=OPTIONAL)
    """Leave the model to an export Pod, which publishes it from the last checkpoint: no GPU waits for the upload. An attempt that does
    not know this publishes it itself."""
    stall_seconds: int = 1800
    """No step for so long: the entry process dumps the stacks and ends the attempt as Stalled."""
