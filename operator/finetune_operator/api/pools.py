"""GPUPool: the platform team's list of the GPUs that exist and what they cost."""

from typing import Annotated, Literal

from pydantic import Field

from finetune_operator.api.fields import UNIQUE, Count, Model, StatusModel, between, items, items_by
from finetune_operator.api.meta import Conditions, Metadata
from finetune_operator.api.pool_pod import PoolPodSettings
from finetune_operator.api.values import (
    GpuMemory,
    GpuTypeName,
    LabelKey,
    LabelValue,
    Price,
    ResourceName,
    TaintKey,
)

PROVISIONING_SECONDS = 1200

ETHERNET_GBPS = 25
"""What is assumed of a network between nodes of which nothing better is known."""


class NodeSelectorTerm(Model):
    """A label of a node."""

    key: LabelKey
    """Label key."""
    value: LabelValue
    """Label value."""


class Toleration(Model):
    """A taint that the Pods tolerate."""

    key: TaintKey = ""
    """Taint key. Empty matches every taint."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """Exists matches any value; Equal compares it."""
    value: LabelValue = ""
    """Taint value, for operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect. Default: all effects."""


class NodeShape(Model):
    """CPU, memory and disk of one node."""

    cpus: Annotated[int, between(1, 4096)]
    """CPU cores per node."""
    memory_gib: Annotated[int, between(1, 1_048_576)]
    """Host memory per node in GiB."""
    ephemeral_gib: Annotated[int, between(1, 1_048_576)]
    """Local disk available to Pods, in GiB."""


class Interconnect(Model):
    """How the GPUs are connected."""

    within_node: Literal["nvlink", "pcie"] = "pcie"
    """Link between the GPUs of one node."""
    between_nodes: Literal["infiniband", "efa", "ethernet", "none"] = "ethernet"
    """Network between nodes. none limits every run to one node. infiniband and efa count only if spec.pod.resources requests a device for
    them."""
    between_nodes_gbps: Annotated[int, between(1, 100_000)] = ETHERNET_GBPS
    """Network bandwidth of one node in Gbit/s."""


class GPUPoolSpec(Model):
    """GPU nodes of one kind."""

    gpu_type: GpuTypeName
    """Catalogue name of the GPU, such as NVIDIA-H100-80GB-HBM3. It determines memory and speed. `finetune gpus` lists the
    names."""
    memory_gib: GpuMemory | None = None
    """Memory of one GPU in GiB as PyTorch reports it, for GPUs that are not in the catalogue and MIG slices: a decimal in
    quotes."""
    gpus_per_node: Annotated[int, between(1, 64)]
    """GPUs per node."""
    max_nodes: Annotated[int, between(0, 10_000)]
    """Maximum number of nodes, including those that an autoscaler can add."""
    node: NodeShape
    """CPU, memory and disk of one node."""
    resource_name: ResourceName = "nvidia.com/gpu"
    """Extended resource that the Pods request, such as nvidia.com/gpu or nvidia.com/mig-3g.40gb (one GPU per job)."""
    node_selector: Annotated[list[NodeSelectorTerm], items_by("key", most=16), UNIQUE] = []
    """Labels that select the pool's nodes."""
    tolerations: Annotated[list[Toleration], items("atomic", most=16)] = []
    """Tolerations for the taints of the pool's nodes."""
    interconnect: Interconnect = Interconnect()
    """How the GPUs are connected."""
    pod: PoolPodSettings = PoolPodSettings()
    """What trainer Pods on these nodes need beside GPUs: a RuntimeClass, network devices, certificates. Preflight Pods run before a
    pool is chosen and have none of it."""
    capacity: Literal["on-demand", "spot"] = "on-demand"
    """Capacity type. spot nodes can be reclaimed at short notice."""
    price_per_gpu_hour_usd: Price
    """Price of one GPU per hour in US dollars: a decimal in quotes such as "2.50"."""
    provisioning_seconds: Annotated[int, between(10, 86_400)] = PROVISIONING_SECONDS
    """How long a run on several nodes waits for all of them, in seconds, before its Pods are deleted and it is retried. With
    resources.failover, how long any run waits before it moves to another pool."""

    @property
    def reached(self) -> Interconnect:
        """The interconnect that a Pod reaches: InfiniBand and EFA need a device, else NCCL talks over Ethernet."""
        links = self.interconnect
        if links.between_nodes not in ("infiniband", "efa") or self.pod.has_fast_network:
            return links
        speed = min(links.between_nodes_gbps, ETHERNET_GBPS)
        return links.model_copy(update={"between_nodes": "ethernet", "between_nodes_gbps": speed})


class GPUPoolStatus(StatusModel):
    """What the operator observed."""

    observed_generation: Count = 0
    """Generation of the spec that this status describes."""
    nodes: Count = 0
    """Number of nodes that match the selector."""
    gpus: Count = 0
    """Number of allocatable GPUs on those nodes."""
    gpus_in_use_by_jobs: Count = 0
    """Number of GPUs in use by FineTuneJobs."""
    conditions: Conditions = []
    """Accepted is True if jobs can run on the pool: the trainer image supports its GPUs, and their memory is known, from the
    catalogue or from memoryGiB."""


class GPUPool(StatusModel):
    """The whole resource, parsed at the door."""

    metadata: Metadata
    spec: GPUPoolSpec
    status: GPUPoolStatus = Field(default_factory=GPUPoolStatus)

    @property
    def key(self) -> str:
        """The pool's name: pools are cluster-scoped."""
        return self.metadata.name
