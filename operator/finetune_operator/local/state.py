"""Where a local cluster keeps its things. First in the flow: every other module of local/ takes a ClusterState."""

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_operator.errors import LocalClusterError

NAME_PATTERN = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The folder of one cluster. Nothing of the cluster is kept anywhere else."""

    root: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "admin.conf"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        """One log file per process."""
        return self.root / "log"

    @property
    def pids(self) -> Path:
        """One file per running process: its id and when it started."""
        return self.root / "pids"

    @property
    def settings(self) -> Path:
        """Ports and loopback network, chosen once."""
        return self.root / "settings.json"

    @property
    def options(self) -> Path:
        """The options of the last start."""
        return self.root / "options.json"

    @property
    def pools(self) -> Path:
        """GPUPools given on the command line, in JSON."""
        return self.root / "pools.json"

    @property
    def pods(self) -> Path:
        """One folder per Pod that the process node runs."""
        return self.root / "pods"

    @property
    def claims(self) -> Path:
        """One folder per PersistentVolumeClaim: NAMESPACE/CLAIM."""
        return self.root / "claims"

    def create(self) -> None:
        """Make the folders; the state holds private keys and Secrets, so only its owner may enter."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.pki, self.logs, self.pids, self.pods, self.claims):
            folder.mkdir(mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let one command at a time change the cluster; a second one waits."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_lock(self.root / ".lock"):
            yield


def state_root() -> Path:
    """Return the folder of all clusters: FINETUNE_STATE, or the XDG place."""
    if folder := os.environ.get("FINETUNE_STATE"):
        return Path(folder).absolute()
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base).absolute() / "finetune-operator"


def cluster_state(name: str = "default") -> ClusterState:
    """Return the state folder of a cluster; it need not exist yet."""
    if not NAME_PATTERN.fullmatch(name):
        raise LocalClusterError(
            f"'{name}' is not a valid cluster name: use at most 40 lower-case letters, digits and '-',"
            " such as 'default'"
        )
    return ClusterState(state_root() / "clusters" / name)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the kernel lets go of it when the process ends, however it ends."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_file(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file so that a reader sees either the old or the new text, even after a crash."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.chmod(mode)
    partial.replace(path)


def read_json(path: Path) -> Any:  # whatever was written
    """Read a JSON file; None where there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
