"""Fixtures of this tier: those of the tests on a real API server, which here also passes requests on to Kueue's own API."""

from collections.abc import Iterator

import pytest
from finetune_operator.local.components import Options
from finetune_operator.local.control_plane import down, up
from finetune_operator.local.state import ClusterState

from tests.cluster.conftest import api, free_port, standin, start_operator
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
