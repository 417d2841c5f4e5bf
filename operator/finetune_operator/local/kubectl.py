"""kubectl with a cluster's own kubeconfig. Called by cli.local, and here to apply the project's CRDs."""

import json
import os
import subprocess
from collections.abc import Sequence

from finetune_operator.errors import LocalClusterError
from finetune_operator.local.binaries import KUBECTL, Say
from finetune_operator.local.provide import provide
from finetune_operator.local.state import ClusterState


def exec_kubectl(state: ClusterState, arguments: Sequence[str]) -> None:
    """Become kubectl: its output, signals and exit code are its own. Does not return."""
    command = [*_command(state), *arguments]
    os.execv(command[0], command)  # noqa: S606 a list, no shell


def apply_crds(state: ClusterState, *, say: Say) -> None:
    """Apply the CRDs of this version and return when they are served."""
    from finetune_operator.api.crd import crds  # noqa: PLC0415  # the models take half a second

    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(crds())})
    kubectl(state, "apply", "--server-side", "--force-conflicts", "-f", "-", given=manifest)
    names = [f"crd/{crd['metadata']['name']}" for crd in crds()]
    kubectl(state, "wait", "--for=condition=Established", "--timeout=30s", *names)
    say(f"applied {', '.join(name.removeprefix('crd/') for name in names)}")


def kubectl(state: ClusterState, *arguments: str, given: str = "") -> str:
    """Run kubectl and return what it printed."""
    command = [*_command(state), *arguments]
    answer = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode:
        raise LocalClusterError(f"kubectl {' '.join(arguments)}: {answer.stderr.strip()}")
    return answer.stdout


def _command(state: ClusterState) -> list[str]:
    program = provide([KUBECTL], say=lambda _line: None)["kubectl"]
    # its own cache folder: port numbers come back after a while, for another cluster
    return [str(program), f"--kubeconfig={state.kubeconfig}", f"--cache-dir={state.root / 'kubectl-cache'}"]
