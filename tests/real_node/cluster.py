"""A cluster of real kubelets on this machine: control plane, network, registry and nodes. Called by the fixtures."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.local.binaries import provide
from finetune_operator.local.certificates import make_certificates
from finetune_operator.local.components import Options
from finetune_operator.local.control_plane import down, up
from finetune_operator.local.ports import HOST, free_port
from finetune_operator.local.state import ClusterState

from tests.cluster.client import eventually
from tests.real_node.identities import Identities
from tests.real_node.network import API_ADDRESS, Network
from tests.real_node.node import PAUSE_IMAGE, RealNode
from tests.real_node.programs import PROGRAMS, run, spawn
from tests.servers.control_plane import ControlPlane

NODE_LOSS = ("--node-monitor-grace-period=15s", "--node-monitor-period=2s")
"""A dead node is noticed after 15 s instead of 50."""


@dataclass(frozen=True)
class RealCluster:
    """What the tests use."""

    plane: ControlPlane
    nodes: tuple[RealNode, ...]
    registry: str
    """host:port; speaks plain HTTP, which containerd takes from this machine."""

    @property
    def audit_log(self) -> Path:
        """Every request to the API server, one JSON object a line."""
        return self.plane.state.logs / "audit.log"

    def node(self, name: str) -> RealNode:
        """Return a node by name."""
        (found,) = (node for node in self.nodes if node.name == name)
        return found

    def bring_up(self, *nodes: RealNode) -> None:
        """Start nodes and wait until they are Ready with all their GPUs."""
        for node in nodes:
            node.start()
        for node in nodes:
            eventually(node.serves, f"containerd of {node.name} serves", 60)
            if PAUSE_IMAGE not in node.ctr("images", "ls", "-q"):
                node.load(self.plane.state.root / "pause.tar")
            node.start_kubelet()
        self.plane.wait_for_nodes(*(node.name for node in nodes))
        for node in nodes:
            self.await_gpus(node.name, node.gpus)

    def await_gpus(self, node: str, count: int) -> None:
        """Wait until a node offers so many GPUs."""
        eventually(lambda: self.gpus(node) == count, f"{node} offers {count} GPUs", 60)

    def gpus(self, node: str) -> int:
        """Return the GPUs that a node can give out."""
        found = self.plane.get("node", node)["status"]["allocatable"]
        return int(found.get("nvidia.com/gpu", 0))


def pause_image(program: Path, folder: Path) -> Path:
    """Pack the one program of the sandbox image."""
    folder.mkdir()
    container = run("buildah", "from", "scratch").strip()
    try:
        run("buildah", "copy", "--quiet", "--chmod", "755", container, program, "/pause")
        run("buildah", "config", "--entrypoint", '["/pause"]', container)
        archive = folder.parent / "pause.tar"
        run("buildah", "commit", "--quiet", container, f"docker-archive:{archive}:{PAUSE_IMAGE}")
    finally:
        run("buildah", "rm", container, check=False)
    return archive


def start_registry(state: ClusterState, program: Path, storage: Path) -> str:
    """Serve images from a folder that outlives the cluster: what is pushed once stays."""
    storage.mkdir(parents=True, exist_ok=True)
    port = free_port(set())
    settings = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": f"{HOST}:{port}"},
    }
    path = state.root / "registry.yml"
    path.write_text(json.dumps(settings))
    spawn(state, "registry", [str(program), "serve", str(path)], OTEL_TRACES_EXPORTER="none")
    eventually(lambda: answers(f"http://{HOST}:{port}/v2/"), "the registry answers", 30)
    return f"localhost:{port}"


def answers(url: str) -> bool:
    """Whether a URL answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def real_cluster(state: ClusterState, *, nodes: int, images: Path) -> Iterator[RealCluster]:
    """Bring a cluster up, and take everything down again."""
    programs = provide(PROGRAMS, say=print)
    identities = Identities(state)
    network = Network(state, identities, programs)
    state.create()
    make_certificates(state)
    identities.prepare()
    made: tuple[RealNode, ...] = ()
    try:
        network.prepare()
        up(state, options(identities), say=print)
        ports = reserve(
            ("proxy-health", "proxy-metrics", "dns-ready", *(f"{i}-{n}" for i in "ab" for n in range(nodes)))
        )
        network.start(ports)
        pause_image(programs["pause"], state.root / "pause")
        made = tuple(
            RealNode(
                state=state,
                identities=identities,
                programs=programs,
                cni=network.cni,
                index=index,
                ports=(ports[f"a-{index}"], ports[f"b-{index}"]),
            )
            for index in range(nodes)
        )
        cluster = RealCluster(ControlPlane(state), made, start_registry(state, programs["registry"], images))
        cluster.bring_up(*made)
        yield cluster
    finally:
        for node in made:
            node.stop()
        network.stop()
        down(state, say=print)


def options(identities: Identities) -> Options:
    """Return how the control plane must differ from one without Pods: reachable from them, and it knows our kubelets."""
    return Options(
        node=False,
        audit=True,
        apiserver_flags=(
            "--bind-address=0.0.0.0",
            f"--advertise-address={API_ADDRESS}",
            "--endpoint-reconciler-type=lease",
            "--enable-admission-plugins=NodeRestriction",
            f"--client-ca-file={identities.trusted_clients}",
            f"--kubelet-certificate-authority={identities.authority}",
        ),
        controller_manager_flags=NODE_LOSS,
    )


def reserve(names: tuple[str, ...]) -> dict[str, int]:
    """Return a free port for each name."""
    taken: set[int] = set()
    ports = {}
    for name in names:
        ports[name] = free_port(taken)
        taken.add(ports[name])
    return ports
