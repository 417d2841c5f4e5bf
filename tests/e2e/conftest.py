"""The whole product, once per session: control plane, process node, operator; a namespace per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_operator.api.crd import crds

from tests.e2e.product import Operator, Product
from tests.servers.control_plane import ProcessNode
from tests.trainer.tiny import conversations, tiny_model

POOL = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "GPUPool",
    "metadata": {"name": "laptop"},
    "spec": {
        "gpuType": "local-cpu",
        "memoryGiB": "16",
        "gpusPerNode": 1,
        "maxNodes": 2,
        "node": {"cpus": 8, "memoryGiB": 32, "ephemeralGiB": 100},
        "nodeSelector": [{"key": "nvidia.com/gpu.product", "value": "local-cpu"}],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "pricePerGPUHourUSD": "36.00",
    },
}
"""Two nodes of one pretended GPU; at this price a GPU-second is a cent."""


@pytest.fixture(scope="session")
def running(process_node: ProcessNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator on a cluster that serves our kinds and has GPUs."""
    cluster = process_node.cluster
    cluster.apply(*crds())
    names = ("crd/finetunejobs.finetune.dev", "crd/gpupools.finetune.dev")
    cluster.kubectl("wait", "--for=condition=Established", *names)
    cluster.apply(POOL)
    operator = Operator(cluster, tmp_path_factory.mktemp("operator") / "operator.log")
    operator.start()
    yield operator
    operator.stop()


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model and its conversations."""
    folder = tmp_path_factory.mktemp("assets")
    return tiny_model(folder / "model"), conversations(folder / "rows.jsonl", rows=300)


@pytest.fixture
def product(
    process_node: ProcessNode, running: Operator, assets: tuple[Path, Path], tmp_path: Path
) -> Iterator[Product]:
    """A namespace of the running product; its jobs are deleted afterwards."""
    if running.process is None:
        running.start()
    model, data = assets
    cluster = process_node.cluster
    product = Product(cluster, cluster.namespace("e2e"), process_node, running, model, data, tmp_path)
    yield product
    cluster.kubectl("delete", "ftj", "--all", "-n", product.namespace, "--wait=false")
