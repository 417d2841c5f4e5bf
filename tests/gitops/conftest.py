"""Fixtures of this tier: an API server that also passes requests on to Kueue's own API, a git host, Argo CD and Flux."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from finetune_operator.local import ports
from finetune_operator.local.components import Options
from finetune_operator.local.control_plane import down, up
from finetune_operator.local.state import ClusterState

from tests.cluster.client import Client
from tests.cluster.conftest import api, free_port, standin, start_operator
from tests.gitops.argocd import Argo, argocd
from tests.gitops.flux import Flux, flux
from tests.gitops.git import Repository, repository, served
from tests.servers.control_plane import ControlPlane

__all__ = ["api", "free_port", "standin", "start_operator"]


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A bare cluster whose API server can prove to others who asks."""
    state = ClusterState(tmp_path_factory.mktemp("clusters") / "gitops")
    proxy = state.pki / "apiserver-kubelet-client"
    flags = (
        f"--requestheader-client-ca-file={state.pki / 'ca.crt'}",
        "--requestheader-allowed-names=kube-apiserver-kubelet-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={proxy}.crt",
        f"--proxy-client-key-file={proxy}.key",
    )
    up(state, Options(node=False, apiserver_flags=flags), say=print)
    try:
        yield ControlPlane(state)
    finally:
        down(state, say=print)


@dataclass(frozen=True)
class GitHost:
    """A folder of repositories, served."""

    root: Path
    address: str

    def make(self, name: str) -> Repository:
        """Make an empty repository."""
        return repository(self.root, name, self.address)


@pytest.fixture(scope="session")
def git_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHost]:
    """Repositories over HTTP on the loopback."""
    root = tmp_path_factory.mktemp("git")
    with served(root, ports.free_port(set())) as address:
        yield GitHost(root, address)


@pytest.fixture
def repo(git_host: GitHost, namespace: str) -> Repository:
    """A repository of the test's own."""
    return git_host.make(namespace)


@pytest.fixture(scope="session")
def argo(api: Client, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Argo]:
    """Argo CD beside the tests' cluster."""
    with argocd(api, control_plane, tmp_path_factory.mktemp("argocd")) as running:
        yield running


@pytest.fixture(scope="session")
def fluxcd(api: Client, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flux]:
    """Flux beside the tests' cluster."""
    with flux(api, control_plane, tmp_path_factory.mktemp("flux")) as running:
        yield running
