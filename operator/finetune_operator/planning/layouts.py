"""What a run has to compute, and the ways to spread it over GPUs that our trainer can run. Called by planner."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.pools import GPUPool, GPUPoolSpec
from finetune_operator.api.resolved import Method, ResolvedSpec
from finetune_operator.api.spec import LoraSpec, ResourcesSpec
from finetune_operator.planning.models.adapter import Adapter
from finetune_operator.planning.models.attention import Attention
from finetune_operator.planning.quota import UNLIMITED, NamespaceLimits

ZeroStage = Literal[0, 2, 3]
Offload = Literal["none", "optimizer", "all"]

MICRO_STEP_TOKENS = 16_384
"""A GPU is busy with so many tokens; a larger micro batch only takes memory (throughput.csv is flat from 8,000 on)."""

GPU_PUBLISH_SECONDS = 60
"""Longest time that GPUs wait for the upload of a model by default: a Pod without GPUs takes a minute to start, to hash and to report."""

LOSS_KERNEL: Literal["tiled", "full"] = "tiled"
"""What our trainer computes the loss with."""

LEAST_MOVED, MOST_MOVED = 0.75, 1.5
"""How far a default global batch may move to what GPUs share: over those that round to the same power of two, as it was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one run computes. No layout changes any of it."""

    resolved: ResolvedSpec
    architecture: ModelArchitecture
    rows: int
    """Rows of one epoch, after packing."""
    mean_tokens: float
    """Tokens of a mean row."""
    long_tokens: int
    """99 % of the rows are no longer than this."""
    evaluation_rows: int
    evaluation_tokens: float
    """Tokens of a mean held-out row."""
    model_bytes: int
    batch_is_fixed: bool
    """The user set globalBatchSize: it is kept exactly."""
    num_trainable_parameters: int
    attention: Attention = "sdpa"
    casts_inputs: bool = False
    """Each adapted matrix casts what it reads to float32 and back, as PEFT does unless it is told not to."""
    generated_answers: int = 0
    """That each model generates for the metrics."""
    label_answers: int = 0
    """Rows times labels whose likelihood each model computes."""
    task_tokens: int = 0
    """That each model reads for tasks of lm-eval."""
    task_tokens_max: int = 0
    """Of the longest of their texts, with the answer to it."""
    limits: NamespaceLimits = UNLIMITED
    """What the namespace lets it have."""
    model_dtype: str = ""
    """Of most weights of the base, as preflight has found it; empty where it has not looked."""
    gpu_publish_seconds: int = GPU_PUBLISH_SECONDS
    """Longest time that the GPUs wait for the upload of a model."""

    @property
    def method(self) -> Method:
        """How weights are trained."""
        return self.resolved.method

    @property
    def packed(self) -> bool:
        """Several rows share a sequence."""
        return self.resolved.training.packing == "always"

    @property
    def sequence_length(self) -> int:
        """Longest row in tokens."""
        return self.resolved.training.sequence_length

    @property
    def answered_tokens(self) -> int:
        """Longest prompt with the longest answer to it; 0 where nothing is generated for metrics."""
        answered = self.sequence_length + self.resolved.evaluation.max_answer_tokens if self.generated_answers else 0
        return max(answered, self.task_tokens_max)

    @property
    def row_tokens(self) -> float:
        """What a row adds to a micro batch: its own tokens where rows lie end to end, else up to the longest row's."""
        return self.mean_tokens if self.attention == "varlen" else self.sequence_length

    @property
    def seen_tokens(self) -> float:
        """Length of the row that a mean token lies in, before packing: long rows hold more of the tokens.

        Twice the mean where lengths are spread as an exponential distribution spreads them, and at most a long row.
        """
        return max(self.evaluation_tokens, min(2 * self.evaluation_tokens, self.long_tokens))

    @property
    def global_batch_size(self) -> int:
        """Rows per optimizer step that the defaults or the user ask for."""
        return self.resolved.training.global_batch_size

    def tokens_in(self, micro_batch_size: int) -> float:
        """Return the tokens that a micro batch computes, padding to the longest row included where rows are padded."""
        if self.packed or micro_batch_size == 1 or self.attention == "varlen":
            return micro_batch_size * self.mean_tokens
        spread = (self.long_tokens - self.mean_tokens) * (1 - 1 / math.sqrt(micro_batch_size))
        return micro_batch_size * min(self.sequence_length, self.mean_tokens + max(0.0, spread))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One step of the ladder: how states are spread."""

    zero_stage: ZeroStage
    offload: Offload = "none"


PLAIN = Rung(zero_stage=0)
"""Every GPU has everything."""

LADDER: dict[Method, tuple[Rung, ...]] = {
    "lora": (PLAIN, Rung(zero_stage=3)),
    "qlora": (PLAIN, Rung(zero_stage=3)),
    "full": (
        PLAIN,
        Rung(zero_stage=2),
        Rung(zero_stage=3),
        Rung(zero_stage=2, offload="optimizer"),
        Rung(zero_stage=3, offload="optimizer"),
        Rung(zero_stage=3, offload="all"),
    ),
}
"""In the order of speed: the first rung that fits is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to run the work."""

    method: Method
    replicas: int
    gpus_per_replica: int
    rung: Rung
    activation_checkpointing: bool
    micro_batch_size: int
    gradient_accumulation_steps: int

    def with_micro_batch(self, size: int, *, activation_checkpointing: bool) -> "Layout":
        """Return the layout that does the same rows per step in micro batches of another size."""
        return Layout(
            method=self.method, replicas=self.replicas, gpus_per_replica=self.gpus_per_replica, rung=self.rung,
            activation_checkpointing=activation_checkpointing, micro_batch_size=size,
            gradient_accumulation_steps=self.micro_batch_size * self.gradient_accumulation_steps // size,
        )  # fmt: skip

    @property
    def gpus(self) -> int:
        """Processes in all, one per GPU; all of them are data parallel."""
        return self.replicas * self.gpus_per_replica

    @property
    def global_batch_size(self) -> int:
        """Rows per optimizer step."""
        return self.micro_batch_size * self.gradient_accumulation_steps * self.gpus


def adapter_of(lora: LoraSpec) -> Adapter:
    """Return what decides the adapter's size."""
    return Adapter(
        lora_rank=lora.rank,
        targets=lora.targets,
        target_modules=tuple(lora.target_modules or ()),
        experts=lora.experts,
        dora=lora.variant == "dora",
        adalora=lora.variant == "adalora",
    )


def illegal(rung: Rung, gpus: int, spec: ResolvedSpec) -> str:
    """Say why a rung cannot be used, or return an empty text. This is the table of legal combinations."""
    method, lora = spec.method, spec.lora
    adalora = lora is not None and lora.variant == "adalora"
    experts = lora is not None and lora.experts
    eight_bit = spec.training.optimizer in ("adamw-8bit", "paged-adamw-8bit")
    table = (
        (rung.zero_stage == 0 and method == "full" and gpus > 1, "full fine-tuning on several GPUs requires ZeRO"),
        (rung.zero_stage > 0 and rung.offload == "none" and gpus == 1, "sharding needs at least two GPUs"),
        (
            spec.resources.offload not in ("auto", rung.offload),
            f"resources.offload is {spec.resources.offload}",
        ),
        (rung.zero_stage == 3 and adalora, "adalora does not work with ZeRO-3, which shards the gradients"),
        (
            rung.zero_stage == 3 and bool(spec.training.early_stopping),
            "early stopping does not work with ZeRO-3, which shards the weights",
        ),
        (
            rung.zero_stage == 3 and method == "lora" and experts,
            "adapters on experts do not work with ZeRO-3, which shards the experts",
        ),
        (method == "qlora" and experts, "qlora cannot adapt experts: use method lora"),
        (rung.offload != "none" and eight_bit, "an 8-bit optimizer cannot be offloaded: use optimizer adamw"),
        (
            rung.offload != "none" and spec.training.precision == "bf16",
            "offload requires float32 master weights, not bf16",
        ),
    )
    return next((reason for applies, reason in table if applies), "")


def gpu_counts(pool: GPUPoolSpec, resources: ResourcesSpec) -> tuple[int, ...]:
    """Return the numbers of GPUs worth trying in a pool, ascending: parts of a node, then whole nodes."""
    most = most_gpus(pool)
    most = min(most, resources.max_gpus or most)
    if resources.gpus is not None:
        return (resources.gpus,) if resources.gpus <= most else ()
    inside = [2**power for power in range(7) if 2**power < pool.gpus_per_node]
    nodes = sorted({2**power for power in range(10)} | {3 * 2**power for power in range(8)})
    return tuple(count for count in (*inside, *(node * pool.gpus_per_node for node in nodes)) if count <= most)


def most_gpus(pool: GPUPoolSpec) -> int:
    """Return how many GPUs of a pool one job can use: MIG slices run alone, and nodes without a network between them, too."""
    if is_slice(pool):
        return min(pool.max_nodes, 1)
    nodes = min(pool.max_nodes, 1) if pool.interconnect.between_nodes == "none" else pool.max_nodes
    return nodes * pool.gpus_per_node


def is_slice(pool: GPUPoolSpec) -> bool:
    """Say whether a pool offers MIG slices."""
    return "/mig-" in pool.resource_name


def split(gpus: int, gpus_per_node: int) -> tuple[int, int]:
    """Return (replicas, GPUs per replica): as few replicas as possible, all alike."""
    per_replica = next(size for size in range(min(gpus, gpus_per_node), 0, -1) if gpus % size == 0)
    return gpus // per_replica, per_replica


def batch_for(gpus: int, *, wanted: int, fixed: bool) -> int | None:
    """Return the global batch on so many GPUs: a user's number exactly, a default moved a little; None: neither can be shared."""
    if wanted % gpus == 0:
        return wanted
    nearest = nearest_multiple(wanted, gpus)
    return None if fixed or not LEAST_MOVED * wanted <= nearest <= MOST_MOVED * wanted else nearest


def shared_batches(counts: Iterable[int], *, wanted: int, fixed: bool) -> tuple[int, ...]:
    """Return the global batches to try: a user's number, or a default and what it becomes on each number of GPUs, the nearest first."""
    moved = {batch for gpus in counts if (batch := batch_for(gpus, wanted=wanted, fixed=fixed)) is not None}
    return tuple(sorted({wanted} | moved, key=lambda batch: (abs(batch - wanted), batch)))


def nearest_multiple(batch: int, gpus: int) -> int:
    """Return the batch nearest to a number of rows that so many GPUs can share."""
    return max(1, math.floor(batch / gpus + 0.5)) * gpus


def shareable_batch(batch: int) -> int:
    """Return the batch nearest to a user's that up to eight GPUs can share."""
    return max(8, round(batch / 8) * 8)


def micro_batch_sizes(rows_per_gpu: int, row_tokens: float) -> tuple[int, ...]:
    """Return the micro batches that divide the work of a GPU exactly, ascending, up to about 16k tokens."""
    sizes = (size for size in range(1, rows_per_gpu + 1) if rows_per_gpu % size == 0)
    return tuple(size for size in sizes if size == 1 or size * row_tokens <= MICRO_STEP_TOKENS)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: 1 row, 32 rows."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def summary(method: str, gpus: int, pool: GPUPool) -> str:
    """Return a layout in one line: `lora on 2 x H100-80GB`."""
    return f"{method} on {gpus} x {card_name(pool)}"


def card_name(pool: GPUPool) -> str:
    """Return what a Pod is given one of: the GPU type without its vendor, and the slice of it."""
    name = pool.spec.gpu_type.removeprefix("NVIDIA-").removeprefix("AMD-")
    _, is_slice, size = pool.spec.resource_name.partition("/mig-")
    return f"{name} mig-{size}" if is_slice else name


def sharding(rung: Rung, gpus: int) -> str:
    """Return how states are spread, in words: `ZeRO-3 with optimizer offload`."""
    plain = "data parallel" if gpus > 1 else "one GPU"
    stage = f"ZeRO-{rung.zero_stage}" if rung.zero_stage else plain
    return (
        stage if rung.offload == "none" else f"{stage} with {'full' if rung.offload == 'all' else rung.offload} offload"
    )
