"""docs/gpu-pools.md: every manifest is a valid GPUPool that selects nodes by labels which its platform really sets."""

import re
from pathlib import Path

import pytest
from finetune_operator.api.pool_pod import PoolPodSettings
from finetune_operator.api.pools import GPUPool, GPUPoolSpec, Toleration
from finetune_operator.cli.manifest_file import parse_pools
from finetune_operator.planning.pools.discovery import Prices, discover
from finetune_operator.planning.pools.nodes import SeenNode, Taint
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gpu-pools.md").read_text()
FENCED = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
BLOCKS = [block for block in FENCED if "kind: GPUPool" in block]
VALUES: dict[str, list[str]] = YAML(typ="safe").load((ROOT / "tests/data/node-labels.yaml").read_text())
"""Labels and values that platforms document."""

each_manifest = pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.search(r"name: ([\w-]+)", block)[1])


def test_all_platforms_are_there():
    """Seven manifests: a lost code fence must fail the test, not shorten it."""
    assert [parse_pools(block)[0].metadata.name for block in BLOCKS] == [
        "h100", "gke-h100-spot", "eks-a100", "karpenter-h100-spot", "aks-a100", "coreweave-h100", "h100-slices",
    ]  # fmt: skip


def test_the_settings_of_pods_are_valid():
    """The fragment uses every field of spec.pod."""
    (fragment,) = (block for block in FENCED if block not in BLOCKS)
    settings = PoolPodSettings.model_validate(YAML(typ="safe").load(fragment)["pod"])

    assert settings.model_fields_set == set(PoolPodSettings.model_fields)


@each_manifest
def test_manifest_is_valid_and_its_labels_exist(block: str):
    """The CLI accepts the manifest, and each selector is a label of the platform with a value that it documents."""
    (pool,) = parse_pools(block)
    selectors = {term.key: term.value for term in pool.spec.node_selector}

    assert selectors
    assert {key: value for key, value in selectors.items() if value not in VALUES.get(key, ())} == {}


def test_the_table_names_labels_of_the_list():
    """What the last table shows is documented, too."""
    table = PAGE.partition("## Labels by platform")[2]
    keys = {key for key in re.findall(r"`([\w.]+/[\w.-]+)", table) if key != "nvidia.com/gpu"}

    assert len(keys) == 12
    assert keys - set(VALUES) == set()


@each_manifest
def test_spot_capacity_and_spot_labels_agree(block: str):
    """A pool of spot nodes says so, because the price and the reclaim notice depend on it."""
    (pool,) = parse_pools(block)
    spot = any("spot" in (term.key + term.value).lower() for term in pool.spec.node_selector)

    assert pool.spec.capacity == ("spot" if spot else "on-demand")


@each_manifest
def test_the_manifest_is_what_would_be_proposed_for_its_nodes(block: str):
    """There and back: nodes made after the manifest are proposed as the same pool, all but price, network and name."""
    (pool,) = parse_pools(block)
    nodes = [node_of(pool, index) for index in range(pool.spec.max_nodes)]
    prices = Prices(given={}, listed={}, source="")
    (proposal,) = discover(nodes, prices).proposals

    assert GPUPoolSpec.model_validate(completed(proposal.spec, pool)) == pool.spec


def node_of(pool: GPUPool, index: int) -> SeenNode:
    """A node as the pool describes it; the size of a slice is a label of its own."""
    sizes = {f"{pool.spec.resource_name}.memory": "40448"} if pool.spec.memory_gib else {}
    shape = pool.spec.node
    return SeenNode(
        name=f"node-{index}",
        labels={term.key: term.value for term in pool.spec.node_selector} | sizes,
        taints=tuple(taint_of(toleration) for toleration in pool.spec.tolerations),
        cpus=shape.cpus + 0.9,
        memory_gib=shape.memory_gib + 0.9,
        ephemeral_gib=shape.ephemeral_gib + 0.9,
        gpus={pool.spec.resource_name: pool.spec.gpus_per_node},
    )


def taint_of(toleration: Toleration) -> Taint:
    return Taint(key=toleration.key, value=toleration.value, effect=toleration.effect)


def completed(spec: dict, pool: GPUPool) -> dict:
    """The proposal with what only people know: price, network between nodes and its devices."""
    known = pool.spec.model_dump(by_alias=True)
    between = {key: known["interconnect"][key] for key in ("betweenNodes", "betweenNodesGbps")}
    return spec | {
        "pricePerGPUHourUSD": known["pricePerGPUHourUSD"],
        "interconnect": spec["interconnect"] | between,
        "pod": known["pod"],
    }
