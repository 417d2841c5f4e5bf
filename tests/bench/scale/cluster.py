"""A control plane with simulated GPU nodes, for load that no real node on this machine could bear."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.local.binaries import KUBECTL, KWOK
from finetune_operator.local.components import Options
from finetune_operator.local.control_plane import down, running, up
from finetune_operator.local.provide import provide
from finetune_operator.local.state import ClusterState

from tests.bench.scale.stages import stages
from tests.cluster.client import Client, Raw, eventually

NAMESPACE = "bench"
GPU_NODES, CPU_NODES = 130, 10
GPU_PRODUCT = "NVIDIA-H100-80GB-HBM3"
GPU_LABELS = {"nvidia.com/gpu.product": GPU_PRODUCT, "nvidia.com/gpu.present": "true"}
FLAGS = ("--kube-api-qps=1000", "--kube-api-burst=2000")
"""No controller of Kubernetes is to be what a burst waits for."""


def quiet(_: str) -> None:
    """The start-up of the cluster is not what is measured."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster and where its parts are."""

    state: ClusterState
    folder: Path

    @property
    def client(self) -> Client:
        """Return an administrator."""
        return Client(self.state.kubeconfig)

    @property
    def audit_log(self) -> Path:
        """Every request, who sent it and what was answered."""
        return self.state.logs / "audit.log"

    @property
    def apiserver_pid(self) -> int:
        """The process whose CPU time a status write costs."""
        return running(self.state)["kube-apiserver"].pid

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl; raises where it fails."""
        program = str(provide([KUBECTL], say=quiet)["kubectl"])
        command = [program, f"--kubeconfig={self.state.kubeconfig}", *arguments]
        answer = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def clear(self, *collections: str) -> None:
        """Delete everything in some collections, and wait until it is gone."""
        for path in collections:
            self.client.delete(path, propagationPolicy="Background")
        for path in collections:
            eventually(lambda path=path: not self.client.items(path, limit="1"), f"{path} is empty", 300)


@contextlib.contextmanager
def simulated_cluster(*, nodes: bool = True) -> Iterator[Cluster]:
    """Start a cluster, with its nodes unless nothing is to run; it is deleted with the block."""
    with tempfile.TemporaryDirectory(prefix="finetune-bench-") as text:
        folder = Path(text)
        cluster = Cluster(ClusterState(folder / "clusters" / "bench"), folder)
        up(cluster.state, Options(audit=True, node=False, controller_manager_flags=FLAGS), say=quiet)
        try:
            cluster.client.ensure("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
            account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
            eventually(lambda: cluster.client.find(account), "Pods can be created")
            with simulated_nodes(cluster) if nodes else contextlib.nullcontext():
                yield cluster
        finally:
            down(cluster.state, say=quiet)


@contextlib.contextmanager
def simulated_nodes(cluster: Cluster) -> Iterator[None]:
    """Keep GPU nodes and CPU nodes alive, and play the Pods on them."""
    config = cluster.folder / "kwok.yaml"
    config.write_text(stages())
    flags = ("--manage-nodes-with-label-selector=type=kwok", "--node-lease-duration-seconds=40", "-v=WARN")
    command = [str(provide([KWOK], say=print)["kwok"]), f"--kubeconfig={cluster.state.kubeconfig}"]
    command += [f"--config={config}", *flags, "--cidr=10.244.0.0/16", "--node-ip=127.0.0.1"]
    with program(command, log=cluster.folder / "kwok.log"):
        for number in range(GPU_NODES):
            cluster.client.ensure("/api/v1/nodes", a_node(f"gpu-{number}", GPU_LABELS, {"nvidia.com/gpu": "8"}))
        for number in range(CPU_NODES):
            cluster.client.ensure("/api/v1/nodes", a_node(f"cpu-{number}", {}, {}))
        eventually(lambda: all_ready(cluster.client), "all nodes are Ready", 60)
        yield


def a_node(name: str, labels: dict[str, str], gpus: dict[str, str]) -> Raw:
    """Return a node; GPU nodes have the usual taint."""
    room = {"cpu": "960", "memory": "10Ti", "ephemeral-storage": "100Ti", "pods": "1000", **gpus}
    taints = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}] if gpus else []
    always = {
        "type": "kwok",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    }
    return {
        "metadata": {"name": name, "labels": always | labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"taints": taints},
        "status": {"capacity": room, "allocatable": room},
    }


def all_ready(client: Client) -> bool:
    """Tell whether every node can take Pods."""
    nodes = client.items("/api/v1/nodes")
    ready = sum(1 for node in nodes if not any(not is_gpus(taint) for taint in node["spec"].get("taints", ())))
    return ready == GPU_NODES + CPU_NODES


def is_gpus(taint: Raw) -> bool:
    """Tell whether a taint is the one that keeps other Pods off GPU nodes."""
    return bool(taint["key"] == "nvidia.com/gpu")


@contextlib.contextmanager
def program(
    command: list[str], *, log: Path, env: dict[str, str] | None = None, cwd: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program until the block ends."""
    with log.open("ab") as sink:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=env, cwd=cwd)
    try:
        yield process
    finally:
        if process.poll() is not None:
            print(f"{command[0]} exited with {process.returncode}: {log.read_text()[-2000:]}", file=sys.stderr)
        process.terminate()
        process.wait(timeout=30)


def until(question: "str", process: "subprocess.Popen[bytes]", log: Path, seconds: float = 60) -> float:
    """Wait until a program's log holds a text; return the seconds that it took."""
    began = time.monotonic()
    eventually(lambda: question in log.read_text() or process.poll() is not None, f"{question!r} in {log}", seconds)
    assert process.poll() is None, log.read_text()[-2000:]
    return time.monotonic() - began
