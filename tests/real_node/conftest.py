"""Real kubelets, once per session; skipped, with the reason, where they cannot run or are not built yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_operator.local.state import ClusterState

from demo.inputs import prepare
from tests.real_node.cluster import RealCluster, real_cluster
from tests.real_node.images import IMAGES, Image, build
from tests.real_node.installation import Installation
from tests.real_node.programs import missing, unbuilt
from tests.real_node.workspace import Workspace
from tests.trainer.tiny import conversations, tiny_model

SECONDS = 600
"""Longest time of one test; the first one of a session brings the cluster up, too, and on a dead node 80 s are waited."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip this folder's tests where a real node cannot run, and limit their time. The audit comes after all others."""
    items.sort(key=lambda item: item.path.name == "test_rbac.py")
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    reason = (missing() or lacking()) if ours else ""
    for item in ours:
        item.add_marker(pytest.mark.timeout(SECONDS))
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def lacking() -> str:
    """Return what would take minutes to build, and the command that builds it; empty where nothing would."""
    absent = [*unbuilt(), *(image.name for image in IMAGES if not image.is_ready())]
    return f"{', '.join(absent)} not built yet: `make e2e-node` builds what is missing" if absent else ""


@pytest.fixture(scope="session")
def built() -> tuple[Image, ...]:
    """All images, built from the Dockerfiles; the layers that take long are there."""
    for image in IMAGES:
        build(image, print)
    return IMAGES


@pytest.fixture(scope="session")
def cluster(built: tuple[Image, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Two nodes with a pretended GPU each."""
    state = ClusterState(tmp_path_factory.mktemp("real") / "two")
    with real_cluster(state, nodes=2, images=built) as running:
        yield running


@pytest.fixture(scope="session")
def installation(cluster: RealCluster, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The operator, installed by the chart from its image by digest, with two replicas."""
    data = tmp_path_factory.mktemp("claims")
    tiny_model(data / "model")
    conversations(data / "rows.jsonl", rows=300)
    prepare(print).put_into(data)
    open_to_all(data)
    installed = Installation(cluster, data)
    installed.install()
    return installed


@pytest.fixture
def workspace(installation: Installation) -> Iterator[Workspace]:
    """A namespace of a user; its jobs are deleted afterwards."""
    workspace = Workspace.make(installation)
    yield workspace
    workspace.delete_all()


def open_to_all(folder: Path) -> None:
    """Let our images' user write to a folder of ours, as a shared file system would after fsGroup."""
    for path in (*folder.parents[:2], folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
