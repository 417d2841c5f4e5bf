"""`finetune pools discover`: manifests on stdout, remarks on stderr."""

from pathlib import Path

import pytest
from finetune_operator.cli.manifest_file import ManifestInvalid, parse_pools
from finetune_operator.cli.pools import command
from finetune_operator.cli.pools_text import pools_text
from finetune_operator.errors import FinetuneError
from finetune_operator.planning.pools.discovery import Proposal

from tests.golden.pools import CLUSTERS, GOLDEN, NODES, proposed


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_proposals_read_as_before(cluster: str):
    """`make goldens` writes the files anew."""
    assert proposed(cluster) == (GOLDEN / f"{cluster}.yaml").read_text()


def test_there_is_a_golden_file_for_every_cluster_and_no_other():
    """A file of nodes that is renamed takes its golden file along."""
    assert len(CLUSTERS) == 7
    assert sorted(path.stem for path in GOLDEN.glob("*.yaml")) == CLUSTERS


PRICED = ["NVIDIA-A100-SXM4-40GB=1.10", "NVIDIA-A100-SXM4-80GB=1.29", "NVIDIA-A40=0.4", "NVIDIA-L40S=0.9",
          "rtx-pro-6000-blackwell-server-edition=1.8", "a100-sxm4-40gb-mig-3g.20gb=0.5", "h100-80gb-hbm3-mig-3g.40gb=1"]  # fmt: skip


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_with_prices_every_proposal_is_a_valid_pool(cluster: str):
    """--price by GPU type or by the pool's name completes what nodes cannot tell."""
    text = proposed(cluster, *(f"--price={price}" for price in PRICED))
    pools = parse_pools(text)

    assert len(pools) == text.count("kind: GPUPool")
    assert all(float(pool.spec.price_per_gpu_hour_usd) > 0 for pool in pools)


def test_a_price_that_nobody_knows_has_to_be_filled_in():
    """Applied as it is, the manifest is refused: a pool that costs nothing would win every plan."""
    with pytest.raises(ManifestInvalid, match=r"^spec\.pricePerGPUHourUSD: is missing$"):
        parse_pools(proposed("eks"))


@pytest.mark.parametrize("price", ["l4", "l4=", "=1", "l4=1,5", "l4=-1"])
def test_a_price_has_a_name_and_a_decimal(price: str):
    """A comma or a missing name is found before anything is printed."""
    with pytest.raises(FinetuneError) as refusal:
        command(nodes=NODES / "eks.yaml", price=[price])

    assert str(refusal.value) == f"--price {price} is not NAME=USD, such as NVIDIA-L4=0.70"


def test_a_file_without_nodes_is_refused(tmp_path: Path):
    """The message says which command prints the file."""
    path = tmp_path / "pods.yaml"
    path.write_text("apiVersion: v1\nkind: List\nitems: [{kind: Pod}]\n")
    with pytest.raises(FinetuneError) as refusal:
        command(nodes=path)

    assert str(refusal.value) == f"{path} contains no Nodes: use the output of `kubectl get nodes -o yaml`"


def test_a_node_without_a_name_is_refused(tmp_path: Path):
    """A part of a Node that was written by hand."""
    path = tmp_path / "nodes.yaml"
    path.write_text("kind: Node\nmetadata:\n")
    with pytest.raises(FinetuneError, match=r"contains a Node without metadata\.name"):
        command(nodes=path)


def test_a_cluster_without_gpus_is_an_error(tmp_path: Path):
    """An empty output would look like success."""
    path = tmp_path / "nodes.json"
    path.write_text('{"kind": "Node", "metadata": {"name": "cpu"}, "status": {"capacity": {"cpu": "4"}}}')
    with pytest.raises(FinetuneError) as refusal:
        command(nodes=path)

    assert str(refusal.value) == (
        "none of the 1 nodes has NVIDIA GPUs for a pool. Nodes that an autoscaler has not started yet are not visible:"
        " docs/gpu-pools.md has example manifests for them"
    )


@pytest.mark.parametrize("word", ["on", "Off", "y", "N", "YES", "no", "true", "Null", "~", "1.5"])
def test_a_value_that_kubectl_would_not_read_as_text_is_quoted(word: str):
    """kubectl reads YAML 1.1, where a taint's value `on` is a boolean."""
    proposal = Proposal(name="a", spec={"tolerations": [{"key": "gpu", "value": word}]}, notes={})

    assert f'value: "{word}"' in pools_text([proposal])
