"""A cluster of real kubelets on this machine: control plane, network, registry and nodes. Called by the fixtures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.local.certificates import make_certificates
from finetune_operator.local.components import Options
from finetune_operator.local.control_plane import down, up
from finetune_operator.local.ports import free_port
from finetune_operator.local.provide import provide
from finetune_operator.local.state import ClusterState, file_lock, read_json

from tests.cluster.client import eventually
from tests.real_node.identities import Identities
from tests.real_node.images import Image
from tests.real_node.network import API_ADDRESS, Network
from tests.real_node.node import PAUSE_IMAGE, RealNode, remove
from tests.real_node.policies import start_policies, stop_policies
from tests.real_node.programs import PROGRAMS, kept, run
from tests.real_node.registry import lend, push, start_registry, stop_registry, unpack
from tests.servers.control_plane import ControlPlane

NODE_LOSS = ("--node-monitor-grace-period=15s", "--node-monitor-period=2s")
"""A dead node is noticed after 15 s instead of 50, and its Pods are given up after 5 s instead of 300."""


@dataclass(frozen=True)
class RealCluster:
    """What the tests use."""

    plane: ControlPlane
    nodes: tuple[RealNode, ...]
    images: dict[Image, str]
    """Our images as Pods name them: by digest."""

    @property
    def audit_log(self) -> Path:
        """Every request to the API server, one JSON object a line."""
        return self.plane.state.logs / "audit.log"

    @property
    def api_port(self) -> int:
        """Port of the API server, on the address that Pods reach."""
        return int(read_json(self.plane.state.settings)["apiserver"])

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


@contextmanager
def real_cluster(state: ClusterState, *, nodes: int, images: tuple[Image, ...]) -> Iterator[RealCluster]:
    """Bring a cluster up, and take everything down again. One at a time on a machine: a second one waits.

    A run that was killed could not clean up: the next one does so first.
    """
    programs = provide(PROGRAMS, say=print)
    kept().mkdir(parents=True, exist_ok=True)
    with file_lock(kept() / ".lock"):
        note = kept() / "running"
        if note.exists():
            take_down(ClusterState(Path(note.read_text())), programs, nodes)
        note.write_text(str(state.root))
        try:
            yield bring_up(state, programs, nodes, images)
        finally:
            take_down(state, programs, nodes)
            note.unlink()


def bring_up(state: ClusterState, programs: dict[str, Path], nodes: int, images: tuple[Image, ...]) -> RealCluster:
    """Start registry, control plane, network and nodes, in this order."""
    state.create()
    make_certificates(state)
    identities = Identities(state)
    identities.prepare()
    own = images_state(state)
    own.create()
    registry = start_registry(own, programs["registry"])
    pushed = {image: push(image, registry) for image in images}
    unpack(own, list(pushed.values()))
    network = Network(state, programs)
    network.prepare()
    up(state, options(identities), say=print)
    ports = reserve(("proxy-health", "proxy-metrics", "dns-ready", *(f"{i}-{n}" for i in "ab" for n in range(nodes))))
    network.start(identities, ports)
    start_policies(state, programs["policies"])
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
    for node in made:
        lend(node.store)
    cluster = RealCluster(ControlPlane(state), made, pushed)
    cluster.bring_up(*made)
    return cluster


def take_down(state: ClusterState, programs: dict[str, Path], nodes: int) -> None:
    """End every process and take away mounts, cgroups, addresses and tables, as far as they are there."""
    for index in range(nodes):
        remove(state, index)
    stop_policies(state)
    Network(state, programs).stop()
    down(state, say=print)
    stop_registry(images_state(state))


def images_state(state: ClusterState) -> ClusterState:
    """Return where the registry keeps its files: the control plane ends what it finds in its own place when it starts."""
    return ClusterState(state.root / "images")


def options(identities: Identities) -> Options:
    """Return how the control plane must differ from one without Pods: reachable from them, and it knows our kubelets."""
    return Options(
        node=False,
        audit=True,
        apiserver_flags=(
            "--bind-address=0.0.0.0",
            f"--advertise-address={API_ADDRESS}",
            "--endpoint-reconciler-type=lease",
            # the second: what a platform team may demand of owner references, and the reason for one of our rules
            "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
            *(f"--default-{taint}-toleration-seconds=5" for taint in ("not-ready", "unreachable")),
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
