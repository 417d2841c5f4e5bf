"""How fast a layout trains. A step takes as long as its arithmetic or its communication, whichever is longer.

Every constant has its story; the fit is tests/bench/bench_throughput.py, the figures are in docs/planning.md.
Called by planner for every candidate; pure arithmetic.
"""

from dataclasses import dataclass

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.pools import Interconnect
from finetune_operator.planning.layouts import Layout, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What one GPU can do."""

    tflops: float
    """Dense bfloat16 that the GPU sustains."""
    bandwidth_tbps: float
    """Memory, TB/s."""
    known: bool = True
    """False: assumed, because the catalogue does not have this GPU."""
    shared: bool = False
    """All processes share one machine: more of them compute no faster."""


LINK_GBPS = {"nvlink": 150.0, "pcie": 8.0}
"""GB/s that a collective moves per GPU inside a node. nvlink: Qwen-72B LoRA under ZeRO-3 on four A100 takes 2.2 s at
256 tokens, all of it gathering 324 GB. pcie: two RTX 3090 reach 4, data-centre boards with peer access more."""

NETWORK_SHARE = 0.8
"""Of the network's nominal bandwidth, what a collective reaches."""

HOST_GBPS = 12.0
"""GB/s between host memory and one GPU when all GPUs of a node copy at once (PCIe 4 x16, pinned)."""

CPU_ADAM_PARAMETERS_PER_SECOND = 1.0e9
"""DeepSpeed's CPUAdam, per node (its authors give about 1 s for 1 billion parameters on 32 cores)."""

UTILISATION = 0.85
"""Of the FLOP/s that a GPU sustains, what the products of a layer reach (fitted)."""

TRAFFIC = 2.75
"""Memory traffic of everything that is no matrix product, in units of one read and one write of a layer's activations
(fitted: norms, residuals, rotary embedding and SwiGLU are not fused)."""

ADAPTER_TRAFFIC = 5.5
"""The same for an adapted layer's inputs and outputs: casts to float32 and back, two small products, a sum (fitted)."""

BF16_ADAPTER_SHARE = 0.75
"""Of that traffic for the bfloat16 adapters of qlora, which need no casts."""

LAUNCH_SECONDS = 0.005
"""A layer's kernels take so long to launch, forward, recomputed and backward: short micro batches are bound by it
(Qwen-1.8B LoRA is equally fast at 256 and 512 tokens)."""

FULL_LAUNCH_SHARE = 0.75
"""Without adapters there are fewer kernels."""

SHARDED_LAUNCH_SECONDS = 0.006
"""ZeRO-3's hooks, per layer."""

DEQUANTISE_BYTES = 5.0
"""Traffic per weight and pass to turn 4 bit into 16 bit before a product (fitted; 2.5 would be the least)."""

OVERLAP = 0.8
"""Part of the shorter of computing and gathering that does not hide behind the longer (fitted; DeepSpeed and
FSDP prefetch little)."""


def flops_per_token(architecture: ModelArchitecture, *, attended: float) -> float:
    """Return the forward FLOPs of one token that attends to `attended` others on average."""
    embedding = architecture.vocab_size * architecture.hidden_size
    inputs = 0 if architecture.tied_embeddings else embedding
    matmul = 2.0 * max(0, architecture.num_active_parameters - inputs)
    attention = 4.0 * attended * architecture.num_attention_heads * architecture.head_dim * architecture.num_layers
    return matmul + attention


def passes(method: str, *, activation_checkpointing: bool) -> float:
    """Return forward-equivalents of one micro step: adapters need no weight gradients, recomputation is one more."""
    return (3.0 if method == "full" else 2.0) + (1.0 if activation_checkpointing else 0.0)


def micro_step_seconds(work: Work, layout: Layout, speed: Speed) -> float:
    """Return the seconds of one forward and backward pass of one GPU: busy, or waiting for kernels to be launched."""
    model, tokens = work.architecture, work.tokens_in(layout.micro_batch_size)
    # sdpa with the dense mask of a packed batch computes every pair; otherwise causal attention skips half of them
    attended = tokens if work.packed else tokens / layout.micro_batch_size / 2
    repeats = passes(layout.method, activation_checkpointing=layout.activation_checkpointing)
    arithmetic = tokens * flops_per_token(model, attended=attended) / (speed.tflops * 1e12 * UTILISATION)
    traffic = _traffic_bytes(layout.method, model) * tokens + _dequantised_bytes(layout.method, model)
    busy = repeats * (arithmetic + traffic / (speed.bandwidth_tbps * 1e12))
    return busy if speed.shared else max(busy, _launch_seconds(layout, model, repeats))


def _traffic_bytes(method: str, model: ModelArchitecture) -> float:
    """Bytes of one token and one pass through all layers beside the matrix products."""
    heads = model.num_attention_heads * model.head_dim
    inner = model.intermediate_size * max(1, model.experts_per_token)
    layer = TRAFFIC * 4 * (4 * model.hidden_size + 2 * heads + 2 * inner)
    if method != "full":
        casts = BF16_ADAPTER_SHARE if method == "qlora" else 1.0
        layer += casts * ADAPTER_TRAFFIC * 4 * (4 * model.hidden_size + 2 * heads + 2 * inner)
    return layer * model.num_layers


def _dequantised_bytes(method: str, model: ModelArchitecture) -> float:
    if method != "qlora":
        return 0.0
    return DEQUANTISE_BYTES * (model.num_parameters - model.num_embedding_parameters)


def _launch_seconds(layout: Layout, model: ModelArchitecture, repeats: float) -> float:
    per_layer = LAUNCH_SECONDS * (FULL_LAUNCH_SHARE if layout.method == "full" else 1.0) * repeats / 3
    if layout.rung.zero_stage == 3:
        per_layer += SHARDED_LAUNCH_SECONDS
    return per_layer * model.num_layers


def step_seconds(work: Work, layout: Layout, speed: Speed, links: Interconnect) -> float:
    """Return the seconds of one optimizer step."""
    micro = micro_step_seconds(work, layout, speed)
    if speed.shared:
        return micro * layout.gradient_accumulation_steps * layout.gpus
    gathering = _gather_seconds(work, layout, links)
    one = max(micro, gathering) + OVERLAP * min(micro, gathering)
    return (
        one * layout.gradient_accumulation_steps
        + _reduce_seconds(work, layout, links)
        + _update_seconds(work, layout, speed)
    )


def link_bytes_per_second(layout: Layout, links: Interconnect) -> float:
    """Return what one GPU sends and receives in a collective: the slowest link on the ring."""
    within = LINK_GBPS[links.within_node] * 1e9
    if layout.replicas == 1:
        return within
    network = links.between_nodes_gbps * 1e9 / 8 * NETWORK_SHARE
    return min(within, network)


def _gather_seconds(work: Work, layout: Layout, links: Interconnect) -> float:
    """ZeRO-3 gathers the weights for every pass; offload brings them over the bus as well."""
    if layout.rung.zero_stage != 3:
        return 0.0
    stored = 0.5625 if layout.method == "qlora" else 2.0
    gathers = 2 + (1 if layout.activation_checkpointing else 0) + (1 if layout.method == "full" else 0)
    moved = gathers * stored * work.architecture.num_parameters
    share = (layout.gpus - 1) / layout.gpus
    bus = moved / layout.gpus / (HOST_GBPS * 1e9) if layout.rung.offload == "all" else 0.0
    return moved * share / link_bytes_per_second(layout, links) + bus


def _reduce_seconds(work: Work, layout: Layout, links: Interconnect) -> float:
    """Gradients are summed once per step; half of it hides behind the backward pass."""
    if layout.gpus == 1 or layout.rung.zero_stage == 3:
        return 0.0
    moved = 2 * 2.0 * work.num_trainable_parameters * (layout.gpus - 1) / layout.gpus
    return 0.5 * moved / link_bytes_per_second(layout, links)


def _update_seconds(work: Work, layout: Layout, speed: Speed) -> float:
    """The optimizer reads and writes its states once: on the GPU from its memory, offloaded on the node's CPUs."""
    shard = work.num_trainable_parameters / (layout.gpus if layout.rung.zero_stage else 1)
    if layout.rung.offload == "none":
        return shard * 28 / (speed.bandwidth_tbps * 1e12)
    on_node = work.num_trainable_parameters / layout.replicas
    return on_node / CPU_ADAM_PARAMETERS_PER_SECOND + shard * 6 / (HOST_GBPS * 1e9)


def tokens_per_second(work: Work, layout: Layout, speed: Speed, links: Interconnect) -> float:
    """Return the tokens trained per second over all GPUs, padding not counted."""
    return layout.global_batch_size * work.mean_tokens / step_seconds(work, layout, speed, links)
