"""How fast a layout trains. A step takes as long as its arithmetic or its communication, whichever is longer.

Every constant has its story; the fit is tests/bench/bench_throughput.py, the figures are in docs/planning.md.
Called by planner for every candidate; pure arithmetic.
"""

from dataclasses import dataclass

from finetune_operator.api.plan import ModelArchitecture
from finetune_operator.api.pools import Interconnect
from finetune_operator.planning.layouts import Layout, Work
from finetune_operator.planning.speed.constants import DEFAULT, Constants
from finetune_operator.planning.speed.one_pass import pass_cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What one GPU can do."""

    tflops: float
    """Dense bfloat16 that the GPU sustains."""
    bandwidth_tbps: float
    """Memory, TB/s."""
    known: bool = True
    """False: assumed, because the catalogue does not have this GPU."""
    fast: bool = False
    """H100 and later: layers that run kernel by kernel keep a smaller part of it busy."""
    shared: bool = False
    """All processes share one machine: more of them compute no faster."""


NETWORK_SHARE = 0.8
"""Of the network's nominal bandwidth, what a collective reaches."""

HOST_GBPS = 12.0
"""GB/s between host memory and one GPU when all GPUs of a node copy at once (PCIe 4 x16, pinned)."""

CPU_ADAM_PARAMETERS_PER_SECOND = 1.0e9
"""DeepSpeed's CPUAdam, per node (its authors give about 1 s for 1 billion parameters on 32 cores)."""


def passes(method: str, *, activation_checkpointing: bool) -> float:
    """Return forward-equivalents of one micro step: adapters need no weight gradients, recomputation is one more."""
    return (3.0 if method == "full" else 2.0) + (1.0 if activation_checkpointing else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """The seconds of one optimizer step, by what they are spent on. They add up."""

    products: float
    """Matrix products, those of experts apart."""
    experts: float
    traffic: float
    """Everything that is no product: bound by memory."""
    launches: float
    """Waiting for kernels to be launched, beyond the above."""
    gathering: float
    """Collecting sharded weights, as far as it does not hide behind the above."""
    gradients: float
    """Summing them over the GPUs."""
    update: float
    """The optimizer."""

    @property
    def total(self) -> float:
        """One step."""
        on_the_gpu = self.products + self.experts + self.traffic + self.launches
        return on_the_gpu + self.gathering + self.gradients + self.update


def step_time(
    work: Work, layout: Layout, speed: Speed, links: Interconnect, constants: Constants = DEFAULT
) -> StepTime:
    """Return what one optimizer step takes, by term."""
    repeats = passes(layout.method, activation_checkpointing=layout.activation_checkpointing)
    once = pass_cost(work, layout.micro_batch_size, constants)
    parts = once.seconds(_tflops(speed, constants), speed.bandwidth_tbps, constants)
    # on a machine that all processes share, one does its micro steps after the other
    micro_steps = layout.gradient_accumulation_steps * (layout.gpus if speed.shared else 1)
    products, experts, traffic = (micro_steps * repeats * part for part in parts)
    busy = repeats * sum(parts)
    launches = 0.0 if speed.shared else max(0.0, _launch_seconds(layout, work.architecture, repeats, constants) - busy)
    link = link_bytes_per_second(layout, links, constants)
    return StepTime(
        products=products,
        experts=experts,
        traffic=traffic,
        launches=micro_steps * launches,
        gathering=0.0 if speed.shared else micro_steps * _exposed(work, layout, busy + launches, link, constants),
        gradients=0.0 if speed.shared else _reduce_seconds(work, layout, link),
        update=0.0 if speed.shared else _update_seconds(work, layout, speed),
    )


def step_seconds(
    work: Work, layout: Layout, speed: Speed, links: Interconnect, constants: Constants = DEFAULT
) -> float:
    """Return the seconds of one optimizer step."""
    return step_time(work, layout, speed, links, constants).total


def _exposed(work: Work, layout: Layout, micro: float, link: float, constants: Constants) -> float:
    """Seconds that gathering adds to a micro step: the shorter of the two hides only in part behind the longer."""
    gathering = _gather_seconds(work, layout, link)
    return max(micro, gathering) + constants.overlap * min(micro, gathering) - micro


def _tflops(speed: Speed, constants: Constants) -> float:
    return speed.tflops * (constants.fast_share if speed.fast else 1.0)


def _launch_seconds(layout: Layout, model: ModelArchitecture, repeats: float, constants: Constants) -> float:
    share = constants.full_launch_share if layout.method == "full" else 1.0
    per_layer = constants.launch_seconds * share * repeats / 3
    if layout.rung.zero_stage == 3:
        per_layer += constants.sharded_launch_seconds
    return per_layer * model.num_layers


def link_bytes_per_second(layout: Layout, links: Interconnect, constants: Constants) -> float:
    """Return what one GPU sends and receives in a collective: the slowest link on the ring."""
    within = (constants.nvlink_gbps if links.within_node == "nvlink" else constants.pcie_gbps) * 1e9
    if layout.replicas == 1:
        return within
    network = links.between_nodes_gbps * 1e9 / 8 * NETWORK_SHARE
    return min(within, network)


def _gather_seconds(work: Work, layout: Layout, link: float) -> float:
    """ZeRO-3 gathers the weights for every pass over them."""
    gathers = 2 + (1 if layout.activation_checkpointing else 0) + (1 if layout.method == "full" else 0)
    return gathers * gather_once_seconds(work, layout, link)


def gather_once_seconds(work: Work, layout: Layout, link: float) -> float:
    """Return the seconds in which ZeRO-3 gathers all weights once; offload brings them over the bus as well. Else 0."""
    if layout.rung.zero_stage != 3:
        return 0.0
    stored = 0.5625 if layout.method == "qlora" else 2.0
    moved = stored * work.architecture.num_parameters
    share = (layout.gpus - 1) / layout.gpus
    bus = moved / layout.gpus / (HOST_GBPS * 1e9) if layout.rung.offload == "all" else 0.0
    return moved * share / link + bus


def _reduce_seconds(work: Work, layout: Layout, link: float) -> float:
    """Gradients are summed once per step; half of it hides behind the backward pass."""
    if layout.gpus == 1 or layout.rung.zero_stage == 3:
        return 0.0
    moved = 2 * 2.0 * work.num_trainable_parameters * (layout.gpus - 1) / layout.gpus
    return 0.5 * moved / link


def _update_seconds(work: Work, layout: Layout, speed: Speed) -> float:
    """The optimizer reads and writes its states once: on the GPU from its memory, offloaded on the node's CPUs."""
    shard = work.num_trainable_parameters / (layout.gpus if layout.rung.zero_stage else 1)
    if layout.rung.offload == "none":
        return shard * 28 / (speed.bandwidth_tbps * 1e12)
    on_node = work.num_trainable_parameters / layout.replicas
    return on_node / CPU_ADAM_PARAMETERS_PER_SECOND + shard * 6 / (HOST_GBPS * 1e9)


def tokens_per_second(
    work: Work, layout: Layout, speed: Speed, links: Interconnect, constants: Constants = DEFAULT
) -> float:
    """Return the tokens trained per second over all GPUs, padding not counted."""
    return layout.global_batch_size * work.mean_tokens / step_seconds(work, layout, speed, links, constants)
