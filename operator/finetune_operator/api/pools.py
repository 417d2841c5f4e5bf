"""GPUPool: the platform team's list of the GPUs that exist and what they cost."""

from typing import Annotated, Literal

from pydantic import Field

from finetune_operator.api.fields import UNIQUE, Count, Model, StatusModel, between, items, items_by
from finetune_operator.api.meta import Conditions, Metadata
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


class NodeSelectorTerm(Model):
    """A node label."""

    key: LabelKey
    """Label name."""
    value: LabelValue
    """Label value."""


class Toleration(Model):
    """A taint that the Pods tolerate."""

    key: TaintKey = ""
    """Taint name."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """Exists ignores the value."""
    value: LabelValue = ""
    """Taint value for operator Equal."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect; absent: all."""


class NodeShape(Model):
    """What one node offers beside its GPUs."""

    cpus: Annotated[int, between(1, 4096)]
    """CPU cores."""
    memory_gib: Annotated[int, between(1, 1_048_576)]
    """Host memory in GiB."""
    ephemeral_gib: Annotated[int, between(1, 1_048_576)]
    """Local disk for Pods in GiB."""


class Interconnect(Model):
    """How the GPUs talk to each other."""

    within_node: Literal["nvlink", "pcie"] = "pcie"
    """Between the GPUs of a node."""
    between_nodes: Literal["infiniband", "efa", "ethernet", "none"] = "ethernet"
    """Between nodes; none forbids runs on more than one node."""
    between_nodes_gbps: Annotated[int, between(1, 100_000)] = 25
    """Bandwidth of a node's network in Gbit/s."""


class GPUPoolSpec(Model):
    """Nodes of one kind."""

    gpu_type: GpuTypeName
    """Name of the GPU in the catalogue, such as NVIDIA-H100-80GB-HBM3; it gives memory and speed. `finetune gpus` lists
    them."""
    memory_gib: GpuMemory | None = None
    """Memory of one GPU in GiB as PyTorch sees it, where the catalogue does not know it (MIG slices): a decimal in
    quotes."""
    gpus_per_node: Annotated[int, between(1, 64)]
    """GPUs of one node."""
    max_nodes: Annotated[int, between(0, 10_000)]
    """Most nodes the pool can have, those included that an autoscaler would add."""
    node: NodeShape
    """What one node offers beside its GPUs."""
    resource_name: ResourceName = "nvidia.com/gpu"
    """Extended resource that Pods ask for, such as nvidia.com/gpu or nvidia.com/mig-3g.40gb (then one GPU per job)."""
    node_selector: Annotated[list[NodeSelectorTerm], items_by("key", most=16), UNIQUE] = []
    """Labels of the pool's nodes."""
    tolerations: Annotated[list[Toleration], items("atomic", most=16)] = []
    """Taints of the pool's nodes."""
    interconnect: Interconnect = Interconnect()
    """How the GPUs talk to each other."""
    capacity: Literal["on-demand", "spot"] = "on-demand"
    """Kind of capacity; nodes of kind spot may be taken away on short notice."""
    price_per_gpu_hour_usd: Price
    """Price of one GPU for one hour in US dollars: a decimal in quotes such as "2.50"."""
    provisioning_seconds: Annotated[int, between(10, 86_400)] = PROVISIONING_SECONDS
    """How long a run on several nodes may wait for all of them before it is taken down and tried again."""


class GPUPoolStatus(StatusModel):
    """What the operator sees of the pool."""

    observed_generation: Count = 0
    """Generation that this status describes."""
    nodes: Count = 0
    """Nodes that match the selector."""
    gpus: Count = 0
    """GPUs allocatable on them."""
    gpus_in_use_by_jobs: Count = 0
    """GPUs held by FineTuneJobs."""
    conditions: Conditions = []
    """Accepted says whether the catalogue or memoryGiB tells how much memory a GPU has."""


class GPUPool(StatusModel):
    """The whole resource, parsed at the door."""

    metadata: Metadata
    spec: GPUPoolSpec
    status: GPUPoolStatus = Field(default_factory=GPUPoolStatus)

    @property
    def key(self) -> str:
        """The pool's name: pools are cluster-scoped."""
        return self.metadata.name
