"""Which GPUs the nodes of a cluster offer: one offer per node and resource, read from labels. Called by discovery.

What cannot be read from a node is not guessed: it becomes a remark that says what to do.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from finetune_operator.planning.pools.gpus import GPUS, gpu
from finetune_operator.planning.pools.node_labels import (
    A100_BY_MEMORY,
    AKS,
    BARE_METAL,
    CAPACITY,
    COREWEAVE,
    EKS,
    EKS_AUTO_MODE,
    EKS_FAMILIES,
    EKS_MARKS,
    GKE,
    GKE_PARTITION,
    GKE_PROVISIONING,
    GKE_SHARING,
    GKE_SPOT,
    INSTANCE_TYPE,
    KARPENTER,
    MEMORY,
    MIG_STRATEGY,
    PRODUCT,
    REPLICAS,
    Platform,
)

WHOLE_GPU = "nvidia.com/gpu"
SHARED_GPU = "nvidia.com/gpu.shared"
MIG_PREFIX = "nvidia.com/mig-"
MIG_PRODUCT = re.compile(r"^(?P<card>.+)-MIG-(?P<profile>[0-9]+g\.[0-9]+gb.*)$")

USABLE = min(entry.memory_gib * 1024 / entry.nvidia_smi_mib for entry in GPUS if entry.nvidia_smi_mib)
"""Of the memory that nvidia-smi reports, what PyTorch sees at least: the lowest share in the catalogue (0.967, a T4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """A taint of a node."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenNode:
    """What matters of a Node object. CPUs, memory and disk are what is allocatable."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    cpus: float
    memory_gib: float
    ephemeral_gib: float
    gpus: Mapping[str, int]
    """Extended resource of the domain nvidia.com -> its capacity: an unhealthy GPU still counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """GPUs of one kind on one node."""

    node: SeenNode
    platform: str
    gpu_type: str
    """Of the catalogue; a name of the node's own for what the catalogue does not have, slices included."""
    resource: str
    count: int
    memory_gib: float | None
    """Of one GPU, where the catalogue cannot know it; None where it can, or where nobody says it."""
    capacity: str
    selector: tuple[tuple[str, str], ...]
    slice_of: str = ""
    """The whole card, if this is a MIG slice of it."""

    @property
    def known(self) -> bool:
        """Whether it is known how much memory a GPU has."""
        return self.memory_gib is not None or gpu(self.gpu_type) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Why a node's GPUs are not proposed, or what is odd about them; with what to do."""

    node: str
    text: str


def offers(node: SeenNode) -> Iterator[Offer | Remark]:
    """Return what a node offers."""
    if node.gpus.get(SHARED_GPU) or (node.gpus.get(WHOLE_GPU) and is_shared(node.labels)):
        yield Remark(node=node.name, text=SHARED)
        return
    if node.labels.get(PRODUCT) and not any(node.gpus.values()):
        yield Remark(node=node.name, text=f"label {PRODUCT} but no allocatable GPU; check the device plugin")
    for resource, count in node.gpus.items():
        if count and resource.startswith(MIG_PREFIX):
            yield _mixed_slice(node, resource, count)
        elif count and resource == WHOLE_GPU:
            yield _slice(node, count) if _profile(node.labels) else _whole(node, count)


SHARED = (
    "GPUs are shared among several Pods (time-slicing or MPS), so the memory of a GPU is not guaranteed;"
    " turn sharing off for training"
)


def is_shared(labels: Mapping[str, str]) -> bool:
    """Tell whether several Pods get the same GPU."""
    product, replicas = labels.get(PRODUCT, ""), labels.get(REPLICAS, "1")
    return product.endswith("-SHARED") or replicas not in ("", "0", "1") or GKE_SHARING in labels


def platform_of(labels: Mapping[str, str]) -> Platform:
    """Return the platform by its own label; GPU feature discovery is everywhere, so it comes last."""
    for platform in (GKE, KARPENTER, EKS_AUTO_MODE, COREWEAVE, AKS):
        if platform.key in labels:
            return platform
    if INSTANCE_TYPE in labels and any(mark in labels for mark in EKS_MARKS):
        return EKS
    return BARE_METAL


def gpu_type_of(labels: Mapping[str, str]) -> str:
    """Return the GPU type of a node: as its driver says, else as its platform says; empty where neither does."""
    if product := labels.get(PRODUCT, ""):
        match = MIG_PRODUCT.match(product)
        card = match["card"] if match else product
        entry = gpu(card)
        return entry.name if entry else card
    platform = platform_of(labels)
    value = labels.get(platform.key, "")
    if platform.memory_key and value == "a100":
        return A100_BY_MEMORY.get(labels.get(platform.memory_key, ""), "")
    if platform is EKS:
        return EKS_FAMILIES.get(value.partition(".")[0], "")
    return platform.gpu_types.get(value, "")


def capacity_of(labels: Mapping[str, str]) -> str:
    """Return spot or on-demand."""
    return "spot" if any(labels.get(key) in values for key, values in CAPACITY) else "on-demand"


def selector_of(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the labels by which a pool would find this node and its like."""
    platform = platform_of(labels)
    keys = [platform.key]
    keys += [PRODUCT] if platform.vague else []
    keys += [platform.memory_key] if platform.memory_key and labels.get(platform.key) == "a100" else []
    keys += [key for key, _ in CAPACITY if not (key == GKE_PROVISIONING and GKE_SPOT in labels)]
    return tuple((key, labels[key]) for key in keys if labels.get(key))


def usable_gib(mib: str | None) -> float | None:
    """Return what PyTorch will see of so many MiB, rounded down to a tenth; None where the label is missing."""
    if not mib or not mib.isdigit() or mib == "0":
        return None
    return int(int(mib) / 1024 * USABLE * 10) / 10


def _whole(node: SeenNode, count: int) -> Offer | Remark:
    gpu_type = gpu_type_of(node.labels)
    if not gpu_type:
        return Remark(
            node=node.name,
            text=f"{WHOLE_GPU} but no label with the GPU type; run GPU feature discovery, which sets"
            f" {PRODUCT}, or write its GPUPool by hand (docs/gpu-pools.md)",
        )
    return Offer(
        node=node,
        platform=platform_of(node.labels).name,
        gpu_type=gpu_type,
        resource=WHOLE_GPU,
        count=count,
        memory_gib=None if gpu(gpu_type) else usable_gib(node.labels.get(MEMORY)),
        capacity=capacity_of(node.labels),
        selector=selector_of(node.labels),
    )


def _profile(labels: Mapping[str, str]) -> str:
    """Return the profile of a node whose GPUs are all cut alike and offered as nvidia.com/gpu; empty for whole GPUs."""
    match = MIG_PRODUCT.match(labels.get(PRODUCT, ""))
    return match["profile"] if match else labels.get(GKE_PARTITION, "")


def _slice(node: SeenNode, count: int) -> Offer | Remark:
    """MIG strategy `single`: a slice bears the name of a whole GPU, so its pool must not let a job take two."""
    profile, memory, card = _profile(node.labels), usable_gib(node.labels.get(MEMORY)), gpu_type_of(node.labels)
    if memory is None or not card:
        return _unknown_slice(node, profile, MEMORY)
    mark = GKE_PARTITION if GKE_PARTITION in node.labels else PRODUCT
    return Offer(
        node=node,
        platform=platform_of(node.labels).name,
        gpu_type=f"{card}-MIG-{profile}",
        resource=WHOLE_GPU,
        count=count,
        memory_gib=memory,
        capacity=capacity_of(node.labels),
        selector=tuple(dict([*selector_of(node.labels), (mark, node.labels[mark])]).items()),
        slice_of=card,
    )


def _mixed_slice(node: SeenNode, resource: str, count: int) -> Offer | Remark:
    """MIG strategy `mixed`: each profile has a resource of its own, and labels of its own."""
    profile, card = resource.removeprefix(MIG_PREFIX), gpu_type_of(node.labels)
    memory = usable_gib(node.labels.get(f"{resource}.memory"))
    if memory is None or not card:
        return _unknown_slice(node, profile, f"{resource}.memory")
    marks = [(key, node.labels[key]) for key in (MIG_STRATEGY, PRODUCT) if key in node.labels]
    return Offer(
        node=node,
        platform=platform_of(node.labels).name,
        gpu_type=card,
        resource=resource,
        count=count,
        memory_gib=memory,
        capacity=capacity_of(node.labels),
        selector=tuple(dict([*marks, *selector_of(node.labels)]).items()),
        slice_of=card,
    )


def _unknown_slice(node: SeenNode, profile: str, label: str) -> Remark:
    return Remark(
        node=node.name,
        text=f"MIG slices {profile}, but not both labels {PRODUCT} and {label}, which give their GPU and memory;"
        " run GPU feature discovery, or write the GPUPool by hand with memoryGiB (docs/gpu-pools.md)",
    )
