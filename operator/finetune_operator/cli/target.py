"""Which cluster a command talks to: the kubeconfig's, or the local cluster where there is no kubeconfig. Called by jobs and plan."""

import os
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.errors import ClusterUnavailable

LOCAL_CLUSTER = "FINETUNE_CLUSTER"
START = "start one with `finetune local up --operator`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A cluster."""

    kubeconfig: str
    """Path, or several joined with colons; empty in a Pod, where the ServiceAccount is used."""
    local: str = ""
    """Name of the local cluster; empty for any other."""

    @property
    def title(self) -> str:
        """What a message calls it."""
        return f"the local cluster {self.local}" if self.local else f"the cluster of {self.kubeconfig or 'this Pod'}"


def find_target(kubeconfig: str = "") -> Target | None:
    """Return the cluster that is meant: the one given, $KUBECONFIG, ~/.kube/config, the Pod's, a local one; None without any."""
    if kubeconfig:
        return Target(kubeconfig=kubeconfig, local=_local_name_of(kubeconfig))
    if chosen := os.environ.get("KUBECONFIG"):
        return Target(kubeconfig=chosen, local=_local_name_of(chosen))
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return Target(kubeconfig="")
    usual = Path("~/.kube/config").expanduser()
    if usual.exists():
        return Target(kubeconfig=str(usual))
    return running_local()


def require_target(kubeconfig: str = "") -> Target:
    """Return the cluster that is meant. Raises ClusterUnavailable that says how to get one."""
    found = find_target(kubeconfig)
    if found is None:
        raise ClusterUnavailable(
            f"no kubeconfig, and no local cluster is running: {START}, or set --kubeconfig or $KUBECONFIG"
        )
    return found


def running_local() -> Target | None:
    """Return the local cluster that runs: the one that $FINETUNE_CLUSTER names, else default, else the only one."""
    from finetune_operator.local.processes import recall  # noqa: PLC0415  # most commands have a kubeconfig
    from finetune_operator.local.state import ClusterState, state_root  # noqa: PLC0415

    folders = sorted((state_root() / "clusters").glob("*/admin.conf"))
    states = [ClusterState(path.parent) for path in folders]
    up = {state.root.name: state for state in states if recall(state.pids / "kube-apiserver") is not None}
    wanted = os.environ.get(LOCAL_CLUSTER, "default")
    chosen = wanted if wanted in up else next(iter(up)) if len(up) == 1 and LOCAL_CLUSTER not in os.environ else ""
    return Target(kubeconfig=str(up[chosen].kubeconfig), local=chosen) if chosen else None


def _local_name_of(kubeconfig: str) -> str:
    """Return the name of the local cluster that a kubeconfig is of; empty for any other."""
    path = Path(kubeconfig)
    return path.parent.name if path.name == "admin.conf" and (path.parent / "pids").is_dir() else ""
