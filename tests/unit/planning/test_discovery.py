"""GPUPools out of nodes: what labels mean, what is put together, what is refused and with which words."""

from dataclasses import replace
from pathlib import Path

import pytest
from finetune_operator.planning.pools.discovery import Discovery, Prices, discover
from finetune_operator.planning.pools.gpus import GPUS, gpu
from finetune_operator.planning.pools.node_labels import A100_BY_MEMORY, COREWEAVE, EKS_FAMILIES, GKE, KARPENTER
from finetune_operator.planning.pools.nodes import Offer, Remark, SeenNode, Taint, offers, usable_gib
from ruamel.yaml import YAML

FACTS = YAML(typ="safe").load((Path(__file__).parents[2] / "data/node-labels.yaml").read_text())
PRODUCT = "nvidia.com/gpu.product"
NO_PRICES = Prices(given={}, listed={}, source="")


def a_node(name: str = "n1", *, gpus: dict[str, int] | None = None) -> SeenNode:
    """A node with eight GPUs and no labels, if nothing else is said."""
    return SeenNode(
        name=name,
        labels={},
        taints=(),
        cpus=95.9,
        memory_gib=1100.7,
        ephemeral_gib=800.2,
        gpus={"nvidia.com/gpu": 8} if gpus is None else gpus,
    )


def labelled(labels: dict[str, str], name: str = "n1", **more: object) -> SeenNode:
    return replace(a_node(name), labels=labels, **more)


def the_offer(node: SeenNode) -> Offer:
    (found,) = offers(node)
    assert isinstance(found, Offer), found
    return found


def the_remark(node: SeenNode) -> str:
    (found,) = offers(node)
    assert isinstance(found, Remark), found
    return found.text


def proposed(*nodes: SeenNode, prices: Prices = NO_PRICES) -> Discovery:
    return discover(nodes, prices)


@pytest.mark.parametrize(
    ("labels", "gpu_type"),
    [
        ({PRODUCT: "NVIDIA-H100-80GB-HBM3"}, "NVIDIA-H100-80GB-HBM3"),
        ({PRODUCT: "A100-SXM4-40GB"}, "NVIDIA-A100-SXM4-40GB"),
        ({PRODUCT: "NVIDIA-A40"}, "NVIDIA-A40"),
        ({"cloud.google.com/gke-accelerator": "nvidia-tesla-a100"}, "NVIDIA-A100-SXM4-40GB"),
        (
            {"karpenter.k8s.aws/instance-gpu-name": "a100", "karpenter.k8s.aws/instance-gpu-memory": "81920"},
            "NVIDIA-A100-SXM4-80GB",
        ),
        (
            {"node.kubernetes.io/instance-type": "p4d.24xlarge", "eks.amazonaws.com/nodegroup": "train"},
            "NVIDIA-A100-SXM4-40GB",
        ),
        ({"eks.amazonaws.com/instance-gpu-name": "h200", "karpenter.sh/capacity-type": "spot"}, "NVIDIA-H200"),
        (
            {"eks.amazonaws.com/instance-gpu-name": "a100", "eks.amazonaws.com/instance-gpu-memory": "40960"},
            "NVIDIA-A100-SXM4-40GB",
        ),
        ({"gpu.nvidia.com/model": "H100_NVLINK_80GB"}, "NVIDIA-H100-80GB-HBM3"),
        (
            {"kubernetes.azure.com/accelerator": "nvidia", PRODUCT: "NVIDIA-A100-SXM4-80GB"},
            "NVIDIA-A100-SXM4-80GB",
        ),
        ({"cloud.google.com/gke-accelerator": "nvidia-h100-80gb", PRODUCT: "NVIDIA-H200"}, "NVIDIA-H200"),
    ],
)
def test_labels_name_the_gpu(labels: dict[str, str], gpu_type: str):
    """The driver's word (gpu.product) counts before the platform's; old labels lack the vendor."""
    assert the_offer(labelled(labels)).gpu_type == gpu_type


def test_every_documented_label_value_names_a_gpu_of_the_catalogue():
    """The tables of the code hold what the list of facts holds, each value once more written by hand."""
    assert set(FACTS["cloud.google.com/gke-accelerator"]) <= set(GKE.gpu_types)
    assert set(FACTS["karpenter.k8s.aws/instance-gpu-name"]) - {"a100"} <= set(KARPENTER.gpu_types)
    assert set(FACTS["karpenter.k8s.aws/instance-gpu-memory"]) == set(A100_BY_MEMORY)
    assert set(FACTS["gpu.nvidia.com/model"]) <= set(COREWEAVE.gpu_types)
    assert {value.partition(".")[0] for value in FACTS["node.kubernetes.io/instance-type"]} <= set(EKS_FAMILIES)
    assert [product for product in FACTS[PRODUCT] if gpu(product) is None] == []
    tables = (GKE.gpu_types, KARPENTER.gpu_types, A100_BY_MEMORY, COREWEAVE.gpu_types, EKS_FAMILIES)
    assert {name for table in tables for name in table.values()} <= {entry.name for entry in GPUS}


@pytest.mark.parametrize(
    ("labels", "capacity"),
    [
        ({"cloud.google.com/gke-spot": "true"}, "spot"),
        ({"cloud.google.com/gke-provisioning": "standard"}, "on-demand"),
        ({"cloud.google.com/gke-provisioning": "preemptible"}, "spot"),
        ({"eks.amazonaws.com/capacityType": "SPOT"}, "spot"),
        ({"eks.amazonaws.com/capacityType": "ON_DEMAND"}, "on-demand"),
        ({"karpenter.sh/capacity-type": "reserved"}, "on-demand"),
        ({"kubernetes.azure.com/scalesetpriority": "spot"}, "spot"),
        ({}, "on-demand"),
    ],
)
def test_capacity_is_read_from_the_platforms_label(labels: dict[str, str], capacity: str):
    """Spot nodes may be taken away, so a plan for them saves more often."""
    assert the_offer(labelled({PRODUCT: "NVIDIA-L4", **labels})).capacity == capacity


@pytest.mark.parametrize(
    "labels",
    [
        {PRODUCT: "NVIDIA-A10G-SHARED"},
        {PRODUCT: "NVIDIA-A10G", "nvidia.com/gpu.replicas": "4"},
        {PRODUCT: "NVIDIA-L4", "cloud.google.com/gke-gpu-sharing-strategy": "mps"},
    ],
)
def test_shared_gpus_are_refused(labels: dict[str, str]):
    """Nothing keeps two Pods on one GPU from taking each other's memory."""
    assert the_remark(labelled(labels)) == (
        "GPUs are shared among several Pods (time-slicing or MPS), so the memory of a GPU is not guaranteed;"
        " turn sharing off for training"
    )


def test_shared_gpus_under_their_own_resource_are_refused():
    """With renameByDefault the resource is nvidia.com/gpu.shared."""
    assert "time-slicing" in the_remark(a_node(gpus={"nvidia.com/gpu.shared": 16}))


def test_a_node_that_nobody_labelled_is_not_guessed():
    """An AKS node without GPU feature discovery says `nvidia`, which is not a GPU type."""
    assert the_remark(labelled({"kubernetes.azure.com/accelerator": "nvidia"})) == (
        "nvidia.com/gpu but no label with the GPU type; run GPU feature discovery, which sets"
        " nvidia.com/gpu.product, or write its GPUPool by hand (docs/gpu-pools.md)"
    )


def test_a_node_without_gpus_is_passed_over():
    """Nodes for web servers are no news."""
    assert proposed(a_node(gpus={})) == Discovery(proposals=(), remarks=())


def test_memory_is_what_pytorch_sees_at_least():
    """No card of the catalogue sees less of nvidia-smi's figure than is assumed for one that it lacks."""
    known = [entry for entry in GPUS if entry.nvidia_smi_mib]

    assert len(known) == 16
    assert all(usable_gib(str(entry.nvidia_smi_mib)) <= entry.memory_gib for entry in known)
    assert (usable_gib("97887"), usable_gib(None), usable_gib("0"), usable_gib("unknown")) == (92.4, None, None, None)


def test_a_slice_that_looks_like_a_whole_gpu_is_a_node_of_its_own():
    """MIG strategy `single`: a pool of sixteen would let a job take two slices, which cannot talk to each other."""
    node = labelled(
        {PRODUCT: "NVIDIA-A100-SXM4-40GB-MIG-3g.20gb", "nvidia.com/gpu.memory": "20096"}, gpus={"nvidia.com/gpu": 16}
    )
    (pool,) = proposed(node).proposals

    assert pool.spec == {
        "gpuType": "NVIDIA-A100-SXM4-40GB-MIG-3g.20gb",
        "memoryGiB": "18.9",
        "gpusPerNode": 1,
        "maxNodes": 16,
        "node": {"cpus": 5, "memoryGiB": 68, "ephemeralGiB": 50},
        "resourceName": "nvidia.com/gpu",
        "nodeSelector": [{"key": PRODUCT, "value": "NVIDIA-A100-SXM4-40GB-MIG-3g.20gb"}],
        "tolerations": [],
        "interconnect": {"betweenNodes": "none"},
        "capacity": "on-demand",
    }
    assert set(pool.notes) - set(pool.spec) == {"pricePerGPUHourUSD"}


def test_gke_cuts_gpus_by_a_label_of_its_own():
    """The partition belongs into the selector: other nodes have the same accelerator."""
    labels = {
        "cloud.google.com/gke-accelerator": "nvidia-tesla-a100",
        "cloud.google.com/gke-gpu-partition-size": "1g.5gb",
        "nvidia.com/gpu.memory": "4864",
    }
    offer = the_offer(labelled(labels, gpus={"nvidia.com/gpu": 7}))

    assert (offer.gpu_type, offer.memory_gib) == ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", 4.5)
    assert dict(offer.selector) == {key: value for key, value in labels.items() if key.startswith("cloud")}


def test_a_slice_of_unknown_size_is_refused():
    """Without memoryGiB the planner would take the slice for the whole card."""
    node = labelled({PRODUCT: "NVIDIA-H100-80GB-HBM3"}, gpus={"nvidia.com/mig-1g.10gb": 56})

    assert the_remark(node) == (
        "MIG slices 1g.10gb, but not both labels nvidia.com/gpu.product and nvidia.com/mig-1g.10gb.memory, which give"
        " their GPU and memory; run GPU feature discovery, or write the GPUPool by hand with memoryGiB (docs/gpu-pools.md)"
    )


def test_taints_that_all_nodes_have_are_tolerated():
    """Passing ones (cordoned, being removed) are not; one that some nodes have is said."""
    lasting, cordoned = (
        Taint(key="nvidia.com/gpu", value="present", effect="NoSchedule"),
        Taint(key="node.kubernetes.io/unschedulable", value="", effect="NoSchedule"),
    )
    team = Taint(key="team", value="vision", effect="NoExecute")
    both = {PRODUCT: "NVIDIA-L4"}
    found = proposed(labelled(both, "a", taints=(lasting, cordoned, team)), labelled(both, "b", taints=(lasting,)))

    assert found.proposals[0].spec["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert found.remarks == ("pool l4: only some of its nodes have the taint team, so the pool does not tolerate it",)


def test_the_smallest_node_of_a_pool_counts():
    """A Pod must fit on each of them."""
    label = {PRODUCT: "NVIDIA-L4"}
    small = replace(labelled(label, "small"), cpus=47.81, memory_gib=359.5)
    (pool,) = proposed(labelled(label, "large"), small).proposals

    assert (pool.spec["maxNodes"], pool.spec["node"]) == (2, {"cpus": 47, "memoryGiB": 359, "ephemeralGiB": 800})


def test_pools_whose_labels_would_overlap_are_told_apart():
    """On-demand nodes have no label that spot nodes lack; the node pool's name has to do."""
    gke = {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    found = proposed(
        labelled(gke | {"cloud.google.com/gke-nodepool": "firm"}, "a"),
        labelled(gke | {"cloud.google.com/gke-nodepool": "cheap", "cloud.google.com/gke-spot": "true"}, "b"),
    )

    assert {pool.name: pool.spec["nodeSelector"][1] for pool in found.proposals} == {
        "l4": {"key": "cloud.google.com/gke-nodepool", "value": "firm"},
        "l4-spot": {"key": "cloud.google.com/gke-spot", "value": "true"},
    }
    assert found.remarks == ()


def test_pools_that_no_label_tells_apart_are_said():
    """A pool that selects other nodes, too, would plan on what is not there."""
    label = {PRODUCT: "NVIDIA-L4"}
    found = proposed(labelled(label, "a"), labelled(label, "b", gpus={"nvidia.com/gpu": 4}))

    assert [pool.name for pool in found.proposals] == ["l4-x4", "l4-x8"]
    assert found.remarks == (
        "pool l4-x4: its labels also match a, which have different GPUs:"
        " give the nodes of the pool a label of their own and select by it",
        "pool l4-x8: its labels also match b, which have different GPUs:"
        " give the nodes of the pool a label of their own and select by it",
    )


def test_remarks_are_said_once_with_their_nodes():
    """A hundred nodes with one trouble are one line."""
    nodes = [a_node(f"n{index}") for index in range(5)]

    assert [remark.partition(": ")[0] for remark in proposed(*nodes).remarks] == ["nodes n0, n1, n2 and 2 more"]


def test_prices_are_the_users_or_listed_or_missing():
    """A price by the pool's name wins over one by GPU type, that over the list; none is made up."""
    node = labelled({PRODUCT: "NVIDIA-L4"})

    def price(given: dict[str, str], listed: dict[tuple[str, str], str]) -> tuple[str | None, bool]:
        (pool,) = proposed(node, prices=Prices(given=given, listed=listed, source="a list")).proposals
        return pool.spec.get("pricePerGPUHourUSD"), pool.complete

    listed = {("NVIDIA-L4", "on-demand"): "0.70"}
    assert price({"l4": "0.1", "NVIDIA-L4": "0.2"}, listed) == ("0.1", True)
    assert price({"NVIDIA-L4": "0.2"}, listed) == ("0.2", True)
    assert price({}, listed) == ("0.70", True)
    assert price({}, {("NVIDIA-L4", "spot"): "0.30"}) == (None, False)
