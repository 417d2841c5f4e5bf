"""Start and stop a local cluster: its four processes and the process node. Called by cli.local and by tests."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from finetune_operator.errors import LocalClusterError
from finetune_operator.local import components
from finetune_operator.local.binaries import CONTROL_PLANE, Say
from finetune_operator.local.certificates import make_certificates, write_kubeconfigs
from finetune_operator.local.components import AUDIT_POLICY, Component, Options
from finetune_operator.local.ports import HOST, Settings, settings
from finetune_operator.local.processes import (
    CLUSTER_MARK,
    ProcessId,
    identify,
    kill_all,
    marked,
    recall,
    remember,
    send,
    start,
    stop,
    wait,
)
from finetune_operator.local.provide import provide
from finetune_operator.local.state import ClusterState, read_json, write_file

NODE = "node"
OPERATOR = "operator"
CORE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", NODE)
START_ORDER = (*CORE, OPERATOR)
OPERATOR_READY = b" ready"
"""What the operator's log says when it has synced."""

READY_SECONDS = 60
"""Longest wait for one process; measured: 0.3 to 4 s each."""
STOP_SECONDS = 15
"""Longest wait for one process to end by itself; measured: at most 1.1 s."""
POLL_SECONDS = 0.05


def up(state: ClusterState, options: Options, *, say: Say, download: bool = False) -> None:
    """Bring a cluster up, after cleaning up what crashed, and return when a Pod can be scheduled."""
    programs = provide(CONTROL_PLANE, say=say, download=download)
    with state.locked():
        if _is_up(state, options):
            say(f"cluster {state.root.name} is already running")
            return
        _stop_all(state, say)
        try:
            _start_all(state, options, programs, say)
        except BaseException:
            # Ctrl-C included: a cluster is up or it is not there
            _stop_all(state, say)
            raise


def down(state: ClusterState, *, say: Say, delete: bool = False) -> None:
    """End every process of a cluster, Pods included; with `delete` its data, too."""
    if not state.root.exists():
        say(f"cluster {state.root.name} does not exist")
        return
    with state.locked():
        _stop_all(state, say)
    if delete:
        shutil.rmtree(state.root)
    say(f"cluster {state.root.name} is stopped" + (" and its data is deleted" if delete else ""))


def running(state: ClusterState) -> dict[str, ProcessId]:
    """Return the cluster's processes that run now, in the order of their start."""
    found = {name: recall(state.pids / name) for name in START_ORDER}
    return {name: process for name, process in found.items() if process}


def start_node(state: ClusterState) -> None:
    """Start the process node of a cluster that is up. It adopts the Pods that outlived the one before."""
    command = [sys.executable, "-m", "finetune_operator.local.node", str(state.root)]
    _spawn(state, NODE, command)


def start_operator(state: ClusterState, *flags: str, say: Say) -> None:
    """Start the operator beside a cluster that is up and has the CRDs, and return when it has synced; one that runs is left alone."""
    if recall(state.pids / OPERATOR):
        say("the operator is already running")
        return
    log = state.logs / f"{OPERATOR}.log"
    begun = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "finetune_operator", "run", "--kubeconfig", str(state.kubeconfig)]
    child = _spawn(state, OPERATOR, [*command, "--port", "0", "--progress-seconds", "2", *flags])
    deadline = time.monotonic() + READY_SECONDS
    while OPERATOR_READY not in log.read_bytes()[begun:]:
        if child.poll() is not None:
            last = "\n  ".join(log.read_text(errors="replace").splitlines()[-3:])
            raise LocalClusterError(f"the operator exited with code {child.returncode}. Last lines of {log}:\n  {last}")
        if time.monotonic() > deadline:
            raise LocalClusterError(f"the operator is not ready after {READY_SECONDS} s: see {log}")
        time.sleep(POLL_SECONDS)
    say(f"the operator is running; its log is {log}")


def stop_node(state: ClusterState) -> None:
    """Stop the process node; the processes of its Pods run on."""
    if process := recall(state.pids / NODE):
        stop(process, seconds=STOP_SECONDS)
    (state.pids / NODE).unlink(missing_ok=True)


def run_node(state: ClusterState) -> None:
    """Be the process node of a cluster, in this process; returns after SIGTERM or Ctrl-C."""
    from finetune_operator.local.node.__main__ import main  # noqa: PLC0415  # an HTTP client and server: half a second

    me = identify(os.getpid())
    if me is None or recall(state.pids / NODE):
        raise LocalClusterError(f"cluster {state.root.name} already has a process node: see `finetune local status`")
    os.environ[CLUSTER_MARK] = str(state.root)
    remember(state.pids / NODE, me)
    try:
        main(state)
    finally:
        (state.pids / NODE).unlink(missing_ok=True)


def require_up(state: ClusterState) -> None:
    """Refuse to go on with a cluster that is not up."""
    if "kube-apiserver" not in running(state):
        name = state.root.name
        raise LocalClusterError(f"cluster {name} is not running: start it with `finetune local up --name {name}`")


def _is_up(state: ClusterState, options: Options) -> bool:
    """Whether all processes run; an error where they run with other options than asked."""
    wanted = set(CORE) if options.node else set(CORE) - {NODE}
    if not wanted <= set(running(state)):
        return False
    if read_json(state.options) != _options_json(options):
        raise LocalClusterError(
            f"cluster {state.root.name} is already running with other options:"
            f" stop it first with `finetune local down --name {state.root.name}`"
        )
    return True


def _start_all(state: ClusterState, options: Options, programs: Mapping[str, Path], say: Say) -> None:
    began = time.monotonic()
    ports = _prepare(state, options)
    trust = _trust(state)
    if options.node:
        # first, because it loads while etcd starts; it waits for the API server by itself
        start_node(state)
    for component in (
        components.etcd(state, ports),
        components.apiserver(state, ports, options),
    ):
        _await(_launch(state, component, programs), component, state, trust)
    say(f"API server ready after {time.monotonic() - began:.1f} s at https://{HOST}:{ports.apiserver}")
    last = (components.controller_manager(state, ports, options), components.scheduler(state, ports))
    children = [_launch(state, component, programs) for component in last]
    for child, component in zip(children, last, strict=True):
        _await(child, component, state, trust)
    _await_schedulable(state, ports, trust, node=options.node)
    say(f"cluster {state.root.name} is ready after {time.monotonic() - began:.1f} s")


def _prepare(state: ClusterState, options: Options) -> Settings:
    state.create()
    ports = settings(state)
    make_certificates(state)
    write_kubeconfigs(state, ports.apiserver)
    write_file(state.options, json.dumps(_options_json(options)))
    write_file(state.root / "audit-policy.yaml", AUDIT_POLICY)
    return ports


def _options_json(options: Options) -> object:
    return json.loads(json.dumps(asdict(options)))


def _launch(state: ClusterState, component: Component, programs: Mapping[str, Path]) -> subprocess.Popen[bytes]:
    return _spawn(state, component.name, [str(programs[component.name]), *component.flags])


def _spawn(state: ClusterState, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    env = {**os.environ, CLUSTER_MARK: str(state.root)}
    log = state.logs / f"{name}.log"
    return start(command, pid_file=state.pids / name, log=log, env=env, cwd=state.root)


def _trust(state: ClusterState) -> ssl.SSLContext:
    """Return the administrator's TLS identity, trusting only this cluster."""
    context = ssl.create_default_context(cafile=state.pki / "ca.crt")
    context.load_cert_chain(state.pki / "admin.crt", state.pki / "admin.key")
    return context


def _await(child: subprocess.Popen[bytes], component: Component, state: ClusterState, trust: ssl.SSLContext) -> None:
    """Wait until a process says that it is ready."""
    # controller manager and scheduler make their own serving certificates: only liveness is asked of them
    mine = component.name in ("etcd", "kube-apiserver")
    context = trust if mine else ssl._create_unverified_context()  # noqa: S323, SLF001
    deadline = time.monotonic() + READY_SECONDS
    while not _answers(component.health, context):
        if child.poll() is not None:
            raise LocalClusterError(_death(child, component, state))
        if time.monotonic() > deadline:
            raise LocalClusterError(f"{component.name} is not ready after {READY_SECONDS} s: see {state.logs}")
        time.sleep(POLL_SECONDS)


def _death(child: subprocess.Popen[bytes], component: Component, state: ClusterState) -> str:
    log = state.logs / f"{component.name}.log"
    lines = log.read_text(errors="replace").splitlines()[-3:]
    return f"{component.name} exited with code {child.returncode}. Last lines of {log}:\n  " + "\n  ".join(lines)


def _await_schedulable(state: ClusterState, ports: Settings, trust: ssl.SSLContext, *, node: bool) -> None:
    """Wait for the ServiceAccount that admission wants to see before any Pod may be created, and for the first Node."""
    wanted = ["/api/v1/namespaces/default/serviceaccounts/default"]
    wanted += ["/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/cpu-0"] if node else []
    deadline = time.monotonic() + READY_SECONDS
    while not all(_answers(f"https://{HOST}:{ports.apiserver}{path}", trust) for path in wanted):
        if node and recall(state.pids / NODE) is None:
            raise LocalClusterError(f"the process node exited: see {state.logs / 'node.log'}")
        if time.monotonic() > deadline:
            raise LocalClusterError(f"{', '.join(wanted)} did not appear within {READY_SECONDS} s: see {state.logs}")
        time.sleep(POLL_SECONDS)


def _answers(url: str, context: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5, context=context if url.startswith("https") else None) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _stop_all(state: ClusterState, say: Say) -> None:
    """End what runs, last started first, then the processes of Pods, then whatever carries the cluster's mark."""
    began = time.monotonic()
    names = list(reversed(running(state).items()))
    for name, process in names:
        if not stop(process, seconds=STOP_SECONDS):
            say(f"{name} did not stop within {STOP_SECONDS} s and was killed")
    for path in state.pids.glob("*"):
        path.unlink()
    supervisors = [found for path in state.pods.glob("*/containers/*/supervisor.json") if (found := recall(path))]
    for supervisor in supervisors:
        # a supervisor takes its whole container with it
        send(supervisor, signal.SIGUSR1)
    for supervisor in supervisors:
        wait(supervisor, seconds=5)
    kill_all(marked(CLUSTER_MARK, str(state.root)))
    if names or supervisors:
        what = f"{_counted(len(names), 'process', 'processes')} and {_counted(len(supervisors), 'container', 'containers')}"
        say(f"stopped {what} in {time.monotonic() - began:.1f} s")


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
