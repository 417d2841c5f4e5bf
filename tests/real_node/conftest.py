"""Real kubelets, once per session; skipped, with the reason, where they cannot run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_operator.local.binaries import cache_root
from finetune_operator.local.state import ClusterState

from tests.real_node.cluster import RealCluster, real_cluster
from tests.real_node.images import OPERATOR, PREFLIGHT, TRAINER, Image, build, push
from tests.real_node.installation import Installation, Workspace
from tests.real_node.programs import missing
from tests.trainer.tiny import conversations, tiny_model


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip this folder's tests where a real node cannot run."""
    reason = missing()
    for item in items:
        if reason and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Two nodes with two pretended GPUs."""
    state = ClusterState(tmp_path_factory.mktemp("real") / "two")
    with real_cluster(state, nodes=2, images=cache_root() / "images") as running:
        yield running


@pytest.fixture(scope="session")
def built() -> list[Image]:
    """All images, built from the Dockerfiles."""
    images = [OPERATOR, PREFLIGHT, TRAINER]
    for image in images:
        build(image, print)
    return images


@pytest.fixture(scope="session")
def installation(cluster: RealCluster, built: list[Image], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The operator, installed by the chart from its image by digest, with two replicas."""
    data = tmp_path_factory.mktemp("claims")
    tiny_model(data / "model")
    conversations(data / "rows.jsonl", rows=300)
    open_to_all(data)
    operator, preflight, trainer = (push(image, cluster.registry, cache_root() / "images") for image in built)
    installed = Installation(cluster, operator, trainer, preflight, data)
    installed.install()
    return installed


@pytest.fixture
def workspace(installation: Installation) -> Iterator[Workspace]:
    """A namespace of a user; its jobs are deleted afterwards."""
    workspace = installation.namespace()
    yield workspace
    workspace.delete_all()


def open_to_all(folder: Path) -> None:
    """Let our images' user write to a folder of ours, as a shared file system would after fsGroup."""
    for path in (*folder.parents[:2], folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
