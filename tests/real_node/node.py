"""One real node: containerd, kubelet and a device plugin with pretended GPUs. Called by cluster."""

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.local.processes import ProcessId, identify, kill_all, marked, recall, stop
from finetune_operator.local.state import ClusterState

from tests.real_node.identities import Identities
from tests.real_node.network import ADDRESSES, DNS_ADDRESS
from tests.real_node.programs import CNI_PLUGINS, kept, run, spawn

PAUSE_IMAGE = "docker.io/local/pause:1"
LABELS = {"nvidia.com/gpu.product": "local-cpu", "nvidia.com/gpu.present": "true"}
"""What GPU feature discovery says. There is no node without GPUs, so preflight runs on these."""
NODE_MARK = "FINETUNE_REAL_NODE"
"""Environment variable of a node's own processes and of the shims of its containers."""


@dataclass(frozen=True, kw_only=True)
class RealNode:
    """A kubelet with a runtime, a cgroup, a mount namespace and folders of its own."""

    state: ClusterState
    identities: Identities
    programs: dict[str, Path]
    cni: Path
    index: int
    ports: tuple[int, int]
    """Of the kubelet: its API, its health."""
    gpus: int = 1

    @property
    def name(self) -> str:
        """Name of the Node."""
        return f"real-{self.index}"

    @property
    def address(self) -> str:
        """Its InternalIP, on the loopback interface."""
        return f"{ADDRESSES}.{10 + self.index}"

    @property
    def folder(self) -> Path:
        """All its files."""
        return self.state.root / self.name

    @property
    def socket(self) -> Path:
        """Where containerd listens."""
        return self.folder / "containerd.sock"

    @property
    def store(self) -> Path:
        """Images and containers."""
        return kept() / self.name

    def start(self) -> None:
        """Start everything; also after `kill`, with what the disk still holds."""
        run("ip", "address", "replace", f"{self.address}/32", "dev", "lo")
        for name in ("lib", "log-links", "faults", "pod-logs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._make_cgroups()
        self._write_containerd_configuration()
        self._write_kubelet_configuration()
        self.socket.unlink(missing_ok=True)
        self._spawn(
            "containerd", [*self._private_mounts(), "containerd", f"--config={self.folder / 'containerd.toml'}"]
        )

    def start_kubelet(self) -> None:
        """Start the kubelet and the GPUs, once the runtime serves."""
        labels = ",".join(f"{key}={value}" for key, value in LABELS.items())
        kubeconfig = self.identities.client(self.name, f"system:node:{self.name}", "system:nodes")
        flags = [
            f"--config={self.folder / 'kubelet.json'}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            f"--cert-dir={self.folder / 'certificates'}",
            f"--node-labels={labels}",
        ]
        self._spawn("kubelet", [*self._inside(), str(self.programs["kubelet"]), *flags])
        gpus = [f"--count={self.gpus}", f"--faults={self.folder / 'faults'}"]
        self._spawn("fakegpu", [*self._inside(), str(self.programs["fakegpu"]), *gpus])

    def serves(self) -> bool:
        """Whether the runtime answers."""
        return self.socket.exists() and "Server" in self.ctr("version", check=False)

    def ctr(self, *arguments: str, check: bool = True, seconds: float = 300) -> str:
        """Run containerd's own client."""
        return run("ctr", "-a", self.socket, "-n", "k8s.io", *arguments, check=check, seconds=seconds)

    def load(self, archive: Path) -> None:
        """Import an image."""
        self.ctr("images", "import", "--digests", str(archive))

    def fail_gpu(self, number: int) -> None:
        """Let a GPU turn unhealthy."""
        (self.folder / "faults" / f"gpu-{number}").touch()

    def heal_gpus(self) -> None:
        """Let all GPUs be healthy again."""
        for path in (self.folder / "faults").iterdir():
            path.unlink()

    def kill(self) -> None:
        """The machine dies: kubelet, runtime, shims and containers, all at once."""
        kill_all(_everything(self.state, self.name))

    def _spawn(self, name: str, command: list[str]) -> None:
        spawn(self.state, f"{name}-{self.name}", command, **{NODE_MARK: self.name})

    def _private_mounts(self) -> list[str]:
        """Start in a mount namespace of the node's own: the kubelet's plugin and log folders have fixed paths."""
        binds = {self.folder / "lib": "/var/lib/kubelet", self.folder / "log-links": "/var/log/containers"}
        for path in binds.values():
            Path(path).mkdir(parents=True, exist_ok=True)
        mounts = " && ".join(f'mount --bind "{source}" "{target}"' for source, target in binds.items())
        script = f'mount --make-rshared / && {mounts} && exec "$@"'
        return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, "sh"]

    def _inside(self) -> list[str]:
        runtime = recall(self.state.pids / f"containerd-{self.name}")
        assert runtime is not None, f"containerd of {self.name} ended: see {self.state.logs}"
        return ["nsenter", "--mount", "--target", str(runtime.pid), "--"]

    def _make_cgroups(self) -> None:
        """Give the node a cgroup of its own in each hierarchy, for otherwise kubelets end each other's Pods."""
        for hierarchy in Path("/sys/fs/cgroup").iterdir():
            if hierarchy.is_dir() and not hierarchy.is_symlink():
                (hierarchy / f"finetune-{self.name}").mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            source = Path("/sys/fs/cgroup/cpuset") / name
            if source.exists():
                (Path("/sys/fs/cgroup/cpuset") / f"finetune-{self.name}" / name).write_text(source.read_text())

    def _write_containerd_configuration(self) -> None:
        specification = json.loads(run("ctr", "oci", "spec"))
        # the default raises limits, which needs a capability that a container of a CI machine may lack
        specification["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 1024}]
        (self.folder / "base-spec.json").write_text(json.dumps(specification))
        (self.folder / "containerd.toml").write_text(f"""version = 2
root = "{self.store}"
state = "{run_folder(self.name)}"
oom_score = 0
[grpc]
address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "{self.folder}/base-spec.json"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{self.cni}"
""")

    def _write_kubelet_configuration(self) -> None:
        certificate, key = self.identities.server(f"{self.name}-kubelet", self.address)
        configuration = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            "port": self.ports[0],
            "healthzPort": self.ports[1],
            "readOnlyPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self.identities.trusted_clients)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/finetune-{self.name}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "maxOpenFiles": 20000,
            "makeIPTablesUtilChains": False,
            "podLogsDir": str(self.folder / "pod-logs"),
            "clusterDNS": [DNS_ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": "/etc/resolv.conf",
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {"memory.available": "200Mi"},
            "nodeStatusUpdateFrequency": "2s",
            "nodeLeaseDurationSeconds": 12,
            "volumeStatsAggPeriod": "5s",
        }
        (self.folder / "kubelet.json").write_text(json.dumps(configuration))


def remove(state: ClusterState, index: int) -> None:
    """End a node, whoever started it, and take away what is outside the state folder."""
    name = f"real-{index}"
    for process in ("kubelet", "fakegpu"):
        if found := recall(state.pids / f"{process}-{name}"):
            stop(found, seconds=10)
    kill_all(_everything(state, name))
    for folder in (run_folder(name), kept() / name):
        shutil.rmtree(folder, ignore_errors=True)
    for root in Path("/sys/fs/cgroup").glob(f"*/finetune-{name}"):
        _remove_cgroup(root)


def run_folder(name: str) -> Path:
    """Return the folder of the runtime's short-lived state; sockets in it must have short names."""
    return Path("/run") / f"finetune-{name}"


def _everything(state: ClusterState, name: str) -> list[ProcessId]:
    """Return a node's own processes, and those of its containers, which are below the shims."""
    own = [found for found in marked(NODE_MARK, name) if _is_of(state, found)]
    return [*own, *(child for process in own for child in _descendants(process))]


def _is_of(state: ClusterState, process: ProcessId) -> bool:
    with contextlib.suppress(OSError):
        return str(state.root).encode() in Path(f"/proc/{process.pid}/environ").read_bytes()
    return False


def _descendants(process: ProcessId) -> list[ProcessId]:
    """Return the children of a process, theirs and so on."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            for pid in (task / "children").read_text().split():
                if child := identify(int(pid)):
                    found += [child, *_descendants(child)]
    return found


def _remove_cgroup(root: Path) -> None:
    """Remove a cgroup and those below it, as far as they are empty."""
    for folder, _, _ in os.walk(root, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
