"""Which programs a local cluster needs, and where the cache keeps them. `provide` finds or makes them."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.errors import LocalClusterError

Say = Callable[[str], None]
"""Shows one line of progress to the user."""

MODULES = Path(__file__).parent / "modules"
"""Go modules that ship with this package: go.mod and go.sum pin every source file of the programs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """A program that we build from a Go module, or find."""

    name: str
    module: str
    """Folder under MODULES."""
    package: str
    """Go package of its main function."""
    version: str
    version_command: tuple[str, ...]
    """Arguments that make it print its version."""
    linker_flags: tuple[str, ...] = ("-s", "-w")
    tags: tuple[str, ...] = ()
    """Go build tags."""
    toolchain: str | None = None
    """Go tool chain that it needs; None: the one that is there."""

    @property
    def cached(self) -> Path:
        """Where the cache keeps it; another version has another folder."""
        return cache_root() / "bin" / f"{self.name}-{self.version}-{system()}-{architecture()}" / self.name


KUBERNETES_VERSION = "v1.36.3"
ETCD_VERSION = "v3.6.8"
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
_STAMP = (
    f"-X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}",
    f"-X k8s.io/component-base/version.gitMajor={_MAJOR}",
    f"-X k8s.io/component-base/version.gitMinor={_MINOR}",
)


def _kubernetes(name: str, *version_command: str) -> Binary:
    return Binary(
        name=name,
        module="kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        version=KUBERNETES_VERSION,
        version_command=version_command or ("--version",),
        linker_flags=("-s", "-w", *_STAMP),
    )


APISERVER = _kubernetes("kube-apiserver")
CONTROLLER_MANAGER = _kubernetes("kube-controller-manager")
SCHEDULER = _kubernetes("kube-scheduler")
KUBECTL = _kubernetes("kubectl", "version", "--client")
ETCD = Binary(
    name="etcd",
    module="kubernetes",
    package="go.etcd.io/etcd/server/v3",
    version=ETCD_VERSION,
    version_command=("--version",),
)
VERSITYGW = Binary(
    name="versitygw",
    module="versitygw",
    package="github.com/versity/versitygw/cmd/versitygw",
    version="v1.8.0",
    version_command=("--version",),
    linker_flags=("-s", "-w", "-X main.Version=v1.8.0"),
)
"""An S3 server over a folder. Not part of the cluster: tests and demos store to it."""
FAKE_GCS = Binary(
    name="fake-gcs-server",
    module="fakegcs",
    package="github.com/fsouza/fake-gcs-server",
    version="v1.56.1",
    version_command=("-help",),
)
"""A Cloud Storage server over a folder. Only tests store to it."""
HELM = Binary(
    name="helm",
    module="helm",
    package="helm.sh/helm/v4/cmd/helm",
    version="v4.3.1",
    version_command=("version", "--short"),
    linker_flags=("-s", "-w", "-X helm.sh/helm/v4/internal/version.version=v4.3.1"),
)
"""Renders and installs the chart. Not part of the cluster."""
KWOK = Binary(
    name="kwok",
    module="kwok",
    package="sigs.k8s.io/kwok/cmd/kwok",
    version="v0.8.0",
    version_command=("--version",),
    linker_flags=("-s", "-w", "-X sigs.k8s.io/kwok/pkg/consts.Version=v0.8.0"),
)
"""Simulates nodes and what kubelets do to Pods. Not part of the cluster: benchmarks run on its nodes."""
TRAINING_OPERATOR = Binary(
    name="training-operator",
    module="training-operator",
    package="github.com/kubeflow/training-operator/cmd/training-operator.v1",
    version="v1.9.3",
    version_command=("--version",),
)
"""Kubeflow's operator, which `make bench-peers` measures beside ours."""
CONTROL_PLANE = (ETCD, APISERVER, CONTROLLER_MANAGER, SCHEDULER, KUBECTL)


def cache_root() -> Path:
    """Return the folder for what is costly to make: FINETUNE_CACHE, or the XDG place."""
    if folder := os.environ.get("FINETUNE_CACHE"):
        return Path(folder).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "finetune-operator"


def system() -> str:
    """Return the operating system in Go's spelling; only Linux has what processes.py needs."""
    if platform.system() != "Linux":
        raise LocalClusterError(
            f"the local cluster requires Linux; this is {platform.system()}: use a Linux machine or VM"
        )
    return "linux"


def architecture() -> str:
    """Return the processor in Go's spelling."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
