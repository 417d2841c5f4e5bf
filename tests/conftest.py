"""Servers that several tiers of tests share: control plane, process node, S3 server, all real and on 127.0.0.1."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_operator.local.components import Options
from finetune_operator.local.control_plane import down, up
from finetune_operator.local.state import ClusterState

from tests.servers.control_plane import ControlPlane, ProcessNode
from tests.servers.versitygw import S3Server
from tests.servers.versitygw import s3_server as serve_s3


@pytest.fixture(autouse=True)
def _environment_of_its_own() -> Iterator[None]:
    """What a program sets in the environment for its own process ends with the test that ran it here."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A bare cluster: etcd, API server, controller manager, scheduler; no Node, no CRD."""
    state = ClusterState(tmp_path_factory.mktemp("clusters") / "tests")
    up(state, Options(node=False), say=print)
    try:
        yield ControlPlane(state)
    finally:
        down(state, say=print)


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own; it is deleted afterwards, without waiting."""
    name = control_plane.namespace()
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def process_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessNode]:
    """A cluster of its own with a process node: Node `cpu-0`, and Nodes for each GPUPool object, also for later ones.

    It is not `control_plane`: there, tests play the kubelet themselves, and a real one would run their Pods.
    """
    state = ClusterState(tmp_path_factory.mktemp("clusters") / "node")
    up(state, Options(), say=print)
    try:
        yield ProcessNode(ControlPlane(state))
    finally:
        down(state, say=print)


@pytest.fixture
def node_namespace(process_node: ProcessNode) -> Iterator[str]:
    """A namespace of the test's own in the process node's cluster."""
    name = process_node.cluster.namespace()
    yield name
    process_node.cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server over a folder, with the bucket `models`."""
    folder: Path = tmp_path_factory.mktemp("s3")
    with serve_s3(folder) as server:
        yield server
