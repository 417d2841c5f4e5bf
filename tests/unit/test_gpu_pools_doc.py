"""docs/gpu-pools.md: every manifest is a valid GPUPool that selects nodes by labels which its platform really sets."""

import re
from pathlib import Path

import pytest
from finetune_operator.cli.manifest_file import parse_pools

PAGE = (Path(__file__).parents[2] / "docs" / "gpu-pools.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)

LABELS = {
    "nvidia.com/gpu.product", "nvidia.com/mig.strategy",
    "cloud.google.com/gke-accelerator", "cloud.google.com/gke-spot",
    "node.kubernetes.io/instance-type", "eks.amazonaws.com/capacityType",
    "karpenter.k8s.aws/instance-gpu-name", "karpenter.sh/capacity-type",
    "kubernetes.azure.com/accelerator", "gpu.nvidia.com/model",
}  # fmt: skip
"""Labels set by GPU feature discovery, GKE, EKS, Karpenter, AKS and CoreWeave (their documentation)."""

VALUES = {
    "cloud.google.com/gke-accelerator": {
        "nvidia-tesla-a100",
        "nvidia-a100-80gb",
        "nvidia-h100-80gb",
        "nvidia-h200-141gb",
        "nvidia-l4",
    },
    "eks.amazonaws.com/capacityType": {"SPOT", "ON_DEMAND"},
    "karpenter.sh/capacity-type": {"spot", "on-demand", "reserved"},
    "karpenter.k8s.aws/instance-gpu-name": {"a100", "h100", "h200", "l40s", "a10g", "l4", "t4"},
    "kubernetes.azure.com/accelerator": {"nvidia"},
    "gpu.nvidia.com/model": {"A100_PCIE_80GB", "H100_NVLINK_80GB", "H200"},
}


def test_all_platforms_are_there():
    """Seven manifests: a lost code fence must fail the test, not shorten it."""
    assert len(BLOCKS) == 7


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.search(r"name: ([\w-]+)", block)[1])
def test_manifest_is_valid_and_its_labels_exist(block: str):
    """The CLI accepts the manifest, and each selector is a label of the platform with a value that it uses."""
    (pool,) = parse_pools(block)
    selectors = {term.key: term.value for term in pool.spec.node_selector}

    assert selectors
    assert set(selectors) <= LABELS
    assert {key: value for key, value in selectors.items() if value not in VALUES.get(key, {value})} == {}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.search(r"name: ([\w-]+)", block)[1])
def test_spot_capacity_and_spot_labels_agree(block: str):
    """A pool of spot nodes says so, because the price and the reclaim notice depend on it."""
    (pool,) = parse_pools(block)
    spot = any("spot" in (term.key + term.value).lower() for term in pool.spec.node_selector)

    assert pool.spec.capacity == ("spot" if spot else "on-demand")
