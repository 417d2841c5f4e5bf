"""The programs of a real node, built from Go modules in the way of the control plane's, and what Debian brings."""

import os
import shutil
import subprocess
from pathlib import Path

from finetune_operator.local.binaries import CONTROL_PLANE, HELM, KUBERNETES_VERSION, VERSITYGW, Binary, cache_root
from finetune_operator.local.processes import CLUSTER_MARK, start
from finetune_operator.local.provide import find
from finetune_operator.local.state import ClusterState

MODULES = Path(__file__).parent / "modules"


def _program(name: str, module: str, package: str, version: str) -> Binary:
    return Binary(
        name=name, module=str(MODULES / module), package=package, version=version, version_command=("--version",)
    )


KUBELET = _program("kubelet", "node", "k8s.io/kubernetes/cmd/kubelet", KUBERNETES_VERSION)
KUBE_PROXY = _program("kube-proxy", "node", "k8s.io/kubernetes/cmd/kube-proxy", KUBERNETES_VERSION)
FAKE_GPU = _program("fakegpu", "node", "./fakegpu", "v2")
PAUSE = _program("pause", "node", "./pause", "v1")
COREDNS = _program("coredns", "coredns", ".", "v1.15.0")
REGISTRY = _program("registry", "registry", "github.com/distribution/distribution/v3/cmd/registry", "v3.0.0")

POLICIES = _program("policies", "policies", ".", "v0.8.0-1")

PROGRAMS = (KUBELET, KUBE_PROXY, FAKE_GPU, PAUSE, COREDNS, REGISTRY, POLICIES)
NEEDED = (*CONTROL_PLANE, HELM, VERSITYGW, *PROGRAMS)
"""All that is built from Go modules for these tests."""

DEBIAN = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "ip": "iproute2",
    "debootstrap": "debootstrap",
    "buildah": "buildah",
}
"""Command -> Debian package."""

QUEUE = 7117
TO_QUEUE = ("--jump", "NFQUEUE", "--queue-num", str(QUEUE))
"""What a rule of iptables does with packets that wait for a verdict of the NetworkPolicies."""

CNI_PLUGINS = Path("/usr/lib/cni")


def missing() -> str:
    """Return why real nodes cannot run on this machine, and what to do; empty where they can."""
    if os.geteuid() != 0:
        return "real nodes need root: run `make e2e-node` as root on a Linux machine of its own"
    absent = {package for command, package in DEBIAN.items() if shutil.which(command) is None}
    if not (CNI_PLUGINS / "bridge").exists():
        absent.add("containernetworking-plugins")
    if absent:
        return f"real nodes need {' '.join(sorted(absent))}: apt-get install --no-install-recommends them"
    try:
        run("unshare", "--net", "iptables", "--append", "INPUT", *TO_QUEUE)
    except AssertionError as error:
        return f"real nodes need a kernel with NFQUEUE, to enforce NetworkPolicies: {error}"
    return ""


def kept() -> Path:
    """Return the folder of what later runs use again: pushed and unpacked images. The nodes' own stores are in it, too,
    because hard links do not cross file systems.
    """
    return cache_root() / "real-node"


def unbuilt() -> list[str]:
    """Return the programs that would have to be built."""
    return [binary.name for binary in NEEDED if find(binary) is None]


def run(*command: str | Path, given: str | None = None, check: bool = True, seconds: float = 120) -> str:
    """Run a command and return what it printed; a failure says what the command said."""
    answer = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=False)
    if check and answer.returncode:
        said = (answer.stderr or answer.stdout).strip()[-2000:]
        raise AssertionError(f"{' '.join(map(str, command))} ended with {answer.returncode}: {said}")
    return answer.stdout


def spawn(state: ClusterState, name: str, command: list[str], **environment: str) -> None:
    """Start a process of the cluster; it ends with the cluster, whatever happens."""
    env = {**os.environ, **environment, CLUSTER_MARK: str(state.root)}
    start(command, pid_file=state.pids / name, log=state.logs / f"{name}.log", env=env, cwd=state.root)
