"""`finetune local`: a Kubernetes cluster on this machine. The command line of local.control_plane."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from finetune_operator.local.binaries import Say
from finetune_operator.local.components import Options
from finetune_operator.local.control_plane import down, require_up, run_node, running, start_operator, up
from finetune_operator.local.foreground import hold, interruptible
from finetune_operator.local.kubectl import apply_crds, exec_kubectl, kubectl
from finetune_operator.local.processes import ProcessId, age_seconds, memory_mib
from finetune_operator.local.state import ClusterState, cluster_state, write_file

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

DEFAULT_NAME = "default"
Name = Annotated[
    str,
    typer.Option("--name", envvar="FINETUNE_CLUSTER", help="Name of the cluster. Several can run at the same time."),
]
KUBECTL_SETTINGS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@app.callback()
def frame() -> None:
    """Run a Kubernetes control plane on this machine, with a node that runs Pods as processes. No containers needed."""


@app.command("up")
def start_cluster(  # noqa: PLR0913  # one parameter per option
    name: Name = DEFAULT_NAME,
    *,
    foreground: Annotated[bool, typer.Option("--foreground", help="Run until Ctrl-C, then stop the cluster.")] = False,
    crds: Annotated[bool, typer.Option("--crds", help="Apply the custom resource definitions.")] = False,
    operator: Annotated[
        bool, typer.Option("--operator", help="Also run the operator, with the CRDs and a pool if there is none.")
    ] = False,
    pools: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="YAML file with GPUPools for the node.")
    ] = None,
    node: Annotated[bool, typer.Option("--node/--no-node", help="Also run the process node.")] = True,
    download: Annotated[
        bool, typer.Option("--download", help="Download official binaries instead of building them.")
    ] = False,
    audit: Annotated[bool, typer.Option("--audit", help="Log every API request to log/audit.log.")] = False,
    apiserver_flag: Annotated[
        list[str] | None, typer.Option(metavar="FLAG", help="Extra flag for kube-apiserver; repeatable.")
    ] = None,
) -> None:
    """Start a cluster and wait until it can schedule Pods. The first start builds its programs."""
    state = cluster_state(name)
    options = Options(audit=audit, apiserver_flags=tuple(apiserver_flag or ()), node=node)
    interrupted = False
    with interruptible():
        try:
            if pools and not (crds or operator):
                state.create()
                write_file(state.pools, _pools_json(pools))
            up(state, options, say=say, download=download)
            if crds or operator:
                apply_crds(state, say=say)
            if (crds or operator) and pools:
                say(kubectl(state, "apply", "--server-side", "-f", str(pools)).strip())
            if operator:
                ensure_pool(state, say=say)
                start_operator(state, say=say)
            say(f"export KUBECONFIG={state.kubeconfig}")
            if foreground:
                hold(state, say=say)
        except KeyboardInterrupt:
            interrupted = True  # what it has cut short is let go of here: it may hold the lock that `down` waits for
        finally:
            if foreground:
                down(state, say=say)
    if interrupted:
        raise KeyboardInterrupt


@app.command("down")
def stop_cluster(
    name: Name = DEFAULT_NAME,
    *,
    delete: Annotated[
        bool, typer.Option("--delete", help="Also delete its data, including PersistentVolumeClaims.")
    ] = False,
) -> None:
    """Stop every process of a cluster, including its Pods. Its data is kept for the next `up`."""
    down(cluster_state(name), say=say, delete=delete)


@app.command("status", short_help="Show the processes of a cluster and its Nodes.")
def show_status(name: Name = DEFAULT_NAME) -> None:
    """Show the processes of a cluster and its Nodes. Exits with 1 if it is not running."""
    state = cluster_state(name)
    require_up(state)
    say(f"{'PROCESS':<26}{'PID':>8}{'MEMORY':>10}{'AGE':>9}")
    for process_name, process in running(state).items():
        say(_process_line(process_name, process))
    say(f"\nstate       {state.root}\nkubeconfig  {state.kubeconfig}\n")
    say(kubectl(state, "get", "nodes", "--output=wide").rstrip())


@app.command("kubeconfig", short_help="Print the path of the administrator's kubeconfig.")
def show_kubeconfig(name: Name = DEFAULT_NAME) -> None:
    """Print the path of the administrator's kubeconfig, as in: export KUBECONFIG=$(finetune local kubeconfig)."""
    state = cluster_state(name)
    require_up(state)
    say(str(state.kubeconfig))


@app.command(
    "kubectl", short_help="Run kubectl against a cluster.", context_settings=KUBECTL_SETTINGS, add_help_option=False
)
def run_kubectl(context: typer.Context) -> None:
    """Run kubectl against a cluster, as in: finetune local kubectl [--name NAME] get pods."""
    name, arguments = _cluster_and_arguments(context.args)
    state = cluster_state(name)
    require_up(state)
    exec_kubectl(state, arguments)


@app.command("node", short_help="Run the process node in this terminal.")
def run_process_node(name: Name = DEFAULT_NAME) -> None:
    """Run the process node in this terminal, for a cluster started with --no-node."""
    state = cluster_state(name)
    require_up(state)
    run_node(state)


def say(line: str) -> None:
    """Print a line at once: somebody may be reading through a pipe."""
    print(line, flush=True)


def _cluster_and_arguments(arguments: list[str]) -> tuple[str, list[str]]:
    """Take our own --name off the front; all else is kubectl's, a --name of its own included."""
    if arguments and arguments[0].startswith("--name="):
        return arguments[0].removeprefix("--name="), arguments[1:]
    if arguments[:1] == ["--name"] and len(arguments) > 1:
        return arguments[1], arguments[2:]
    return os.environ.get("FINETUNE_CLUSTER", DEFAULT_NAME), arguments


def _process_line(name: str, process: ProcessId) -> str:
    return f"{name:<26}{process.pid:>8}{memory_mib(process):>6.0f} MiB{age_seconds(process):>7.0f} s"


def ensure_pool(state: ClusterState, *, say: Say) -> None:
    """Create a pool of this machine's own if the cluster has none: without one no job can be planned."""
    if kubectl(state, "get", "gpupools", "--output=name").strip():
        return
    from finetune_operator.cli.laptop_pool import laptop_pool  # noqa: PLC0415  # needed once

    say(kubectl(state, "apply", "--server-side", "-f", "-", given=json.dumps(laptop_pool())).strip())


def _pools_json(path: Path) -> str:
    """Return the GPUPools of a YAML file as the process node reads them."""
    from finetune_operator.cli.manifest_file import read_pools  # noqa: PLC0415  # the models take half a second

    return json.dumps([pool.model_dump(mode="json", by_alias=True) for pool in read_pools(path)])
