"""What the labels of nodes say, platform by platform: which GPU, which capacity. Called by discovery.

Values are those that platforms document; tests/data/node-labels.yaml lists them again, with where they come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PRODUCT = "nvidia.com/gpu.product"
"""Set by GPU feature discovery. Time-slicing appends -SHARED; MIG with strategy `single` appends -MIG-PROFILE."""
MEMORY = "nvidia.com/gpu.memory"
"""MiB of one GPU (of one slice with MIG strategy `single`) as nvidia-smi reports it."""
MIG_STRATEGY = "nvidia.com/mig.strategy"
REPLICAS = "nvidia.com/gpu.replicas"
"""Pods that share one GPU by time-slicing or MPS; 1 is none."""
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
GKE_SHARING = "cloud.google.com/gke-gpu-sharing-strategy"
GKE_SPOT = "cloud.google.com/gke-spot"
GKE_PROVISIONING = "cloud.google.com/gke-provisioning"
GKE_PARTITION = "cloud.google.com/gke-gpu-partition-size"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """How one platform labels its GPU nodes."""

    name: str
    key: str
    """The label by which the platform tells GPU models apart; an autoscaler knows it before the node exists."""
    gpu_types: Mapping[str, str]
    """Value -> GPU type of the catalogue."""
    vague: bool = False
    """The label does not tell all models apart: select by PRODUCT, too."""
    memory_key: str = ""
    """A label with a GPU's memory, where one value of `key` stands for two models: `a100`."""


GKE = Platform(
    name="GKE",
    key="cloud.google.com/gke-accelerator",
    gpu_types={
        "nvidia-tesla-a100": "NVIDIA-A100-SXM4-40GB",
        "nvidia-a100-80gb": "NVIDIA-A100-SXM4-80GB",
        "nvidia-h100-80gb": "NVIDIA-H100-80GB-HBM3",
        "nvidia-h100-mega-80gb": "NVIDIA-H100-80GB-HBM3",
        "nvidia-h200-141gb": "NVIDIA-H200",
        "nvidia-b200": "NVIDIA-B200",
        "nvidia-l4": "NVIDIA-L4",
        "nvidia-tesla-t4": "Tesla-T4",
        "nvidia-tesla-v100": "Tesla-V100-SXM2-16GB",
    },
)
KARPENTER = Platform(
    name="Karpenter",
    key="karpenter.k8s.aws/instance-gpu-name",
    gpu_types={
        "b200": "NVIDIA-B200",
        "h200": "NVIDIA-H200",
        "h100": "NVIDIA-H100-80GB-HBM3",
        "l40s": "NVIDIA-L40S",
        "a10g": "NVIDIA-A10G",
        "l4": "NVIDIA-L4",
        "t4": "Tesla-T4",
    },
    memory_key="karpenter.k8s.aws/instance-gpu-memory",
)
"""`a100` is missing on purpose: p4d and p4de share it, A100_BY_MEMORY tells them apart."""
EKS_AUTO_MODE = Platform(
    name="EKS Auto Mode",
    key="eks.amazonaws.com/instance-gpu-name",
    gpu_types=KARPENTER.gpu_types,
    memory_key="eks.amazonaws.com/instance-gpu-memory",
)
A100_BY_MEMORY = {"40960": "NVIDIA-A100-SXM4-40GB", "81920": "NVIDIA-A100-SXM4-80GB"}

COREWEAVE = Platform(
    name="CoreWeave",
    key="gpu.nvidia.com/model",
    gpu_types={
        "A100_PCIE_40GB": "NVIDIA-A100-PCIE-40GB",
        "A100_PCIE_80GB": "NVIDIA-A100-80GB-PCIe",
        "A100_NVLINK_80GB": "NVIDIA-A100-SXM4-80GB",
        "H100_PCIE": "NVIDIA-H100-PCIe",
        "H100_NVLINK_80GB": "NVIDIA-H100-80GB-HBM3",
        "H200": "NVIDIA-H200",
    },
)
AKS = Platform(name="AKS", key="kubernetes.azure.com/accelerator", gpu_types={}, vague=True)
EKS = Platform(name="EKS", key=INSTANCE_TYPE, gpu_types={})
"""Known by the label eks.amazonaws.com/nodegroup or capacityType; the GPU follows from the family of the instance."""
BARE_METAL = Platform(name="GPU operator", key=PRODUCT, gpu_types={})

EKS_MARKS = ("eks.amazonaws.com/nodegroup", "eks.amazonaws.com/capacityType")
EKS_FAMILIES = {
    "p3": "Tesla-V100-SXM2-16GB",
    "p3dn": "Tesla-V100-SXM2-32GB",
    "p4d": "NVIDIA-A100-SXM4-40GB",
    "p4de": "NVIDIA-A100-SXM4-80GB",
    "p5": "NVIDIA-H100-80GB-HBM3",
    "p5e": "NVIDIA-H200",
    "p5en": "NVIDIA-H200",
    "p6-b200": "NVIDIA-B200",
    "g4dn": "Tesla-T4",
    "g5": "NVIDIA-A10G",
    "g6": "NVIDIA-L4",
    "g6e": "NVIDIA-L40S",
}
"""Family of an EC2 instance type (what stands before the dot) -> GPU type."""

CAPACITY = (
    ("karpenter.sh/capacity-type", ("spot",)),
    ("eks.amazonaws.com/capacityType", ("SPOT",)),
    (GKE_SPOT, ("true",)),
    (GKE_PROVISIONING, ("spot", "preemptible")),
    ("kubernetes.azure.com/scalesetpriority", ("spot",)),
)
"""(label, its values that mean spot); any other value means on-demand. They belong into the selector of a pool."""

NODE_POOLS = (
    "nvidia.com/gpu.count",
    INSTANCE_TYPE,
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "karpenter.sh/nodepool",
    "kubernetes.azure.com/agentpool",
)
"""Labels that tell nodes apart where GPU and capacity do not."""

PASSING_TAINTS = (
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "node.cilium.io/",
    "karpenter.sh/",
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
)
"""Beginnings of taints that come and go with the state of a node: a pool must not tolerate them."""
