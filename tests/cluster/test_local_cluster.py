"""`finetune local`: clusters come up, stand side by side, and go without a trace."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_operator.local.processes import CLUSTER_MARK, identify, marked, wait
from finetune_operator.local.state import ClusterState

from tests.cluster.client import eventually
from tests.cluster.pod_manifests import a_script
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster

FINETUNE = Path(sys.executable).parent / "finetune"


class Shell:
    """A user's shell with a state folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {**os.environ, "FINETUNE_STATE": str(root)}

    def local(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `finetune local ...`."""
        command = [FINETUNE, "local", *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120, check=False)

    def started(self, *arguments: str) -> subprocess.Popen[str]:
        """Run `finetune local ...` beside the test."""
        command = [FINETUNE, "local", *arguments]
        return subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def state(self, name: str) -> ClusterState:
        """Return a cluster's state folder."""
        return ClusterState(self.root / "clusters" / name)

    def processes(self, name: str) -> int:
        """Count the processes of a cluster, Pods included."""
        return len(marked(CLUSTER_MARK, str(self.state(name).root)))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell; what it started is gone afterwards, and a test that left something behind fails."""
    shell = Shell(tmp_path / "state")
    yield shell
    left = {path.name: shell.processes(path.name) for path in (tmp_path / "state" / "clusters").glob("[a-z]*")}
    for name in left:
        shell.local("down", "--name", name)
    assert {name: count for name, count in left.items() if count} == {}


def test_two_clusters_stand_side_by_side(shell: Shell):
    """Each has its own ports, its own state and its own objects; ending one leaves the other alone."""
    for name in ("one", "two"):
        assert shell.local("up", "--name", name).returncode == 0
        shell.local("kubectl", "--name", name, "create", "namespace", f"only-in-{name}")
    one, two = (json.loads(shell.state(name).settings.read_text()) for name in ("one", "two"))
    listed = shell.local("kubectl", "--name", "two", "get", "namespaces", "-o", "name").stdout
    assert set(one.values()).isdisjoint(set(two.values()) - {two["network"]})
    assert "namespace/only-in-two" in listed
    assert "namespace/only-in-one" not in listed

    assert shell.local("down", "--name", "one").returncode == 0
    assert (shell.processes("one"), shell.processes("two")) == (0, 5)
    assert shell.local("status", "--name", "one").stderr == (
        "finetune: cluster one is not running: start it with `finetune local up --name one`\n"
    )
    assert "kube-apiserver" in shell.local("status", "--name", "two").stdout
    shell.local("down", "--name", "two")


def test_down_ends_pods_and_up_finds_them_ended(shell: Shell):
    """The data outlives the processes: the next start has the same objects and says how the Pods ended."""
    shell.local("up")
    cluster = ControlPlane(shell.state("default"))
    cluster.apply(a_script("default", "p", "setsid sleep 1000 & sleep 1000"))
    cluster.phase("p", "default", "Running")
    said = shell.local("down").stdout

    assert said.startswith("stopped 5 processes and 1 container in ")
    assert shell.processes("default") == 0
    shell.local("up")
    (status,) = cluster.phase("p", "default", "Failed")["status"]["containerStatuses"]
    assert status["state"]["terminated"]["exitCode"] == 137
    assert shell.local("down", "--delete").stdout.endswith("cluster default is stopped and its data is deleted\n")
    assert not shell.state("default").root.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_cluster_in_the_foreground(shell: Shell, number: signal.Signals):
    """Ctrl-C, kill and a closed terminal leave no process behind."""
    child = shell.started("up", "--foreground", "--no-node")
    assert child.stdout is not None
    lines = iter(child.stdout.readline, "running; press Ctrl-C to stop\n")
    assert any(line.startswith("cluster default is ready after") for line in lines)
    child.send_signal(number)
    rest = child.communicate(timeout=60)[0]

    assert rest.endswith("cluster default is stopped\n")
    assert shell.processes("default") == 0


INTERRUPTED = """
import contextlib, os, signal, sys
from finetune_operator.cli import main

def watch(frame, event, _argument):
    if frame.f_code is contextlib._GeneratorContextManager.__exit__.__code__ and frame.f_locals["self"].gen.gi_code.co_name == "locked":
        sys.settrace(None)
        os.kill(os.getpid(), signal.SIGINT)

sys.settrace(watch)
main()
"""
"""Ctrl-C at the moment in which the lock of a cluster that is up is let go of: nobody leaves its context then."""


def test_ctrl_c_while_the_lock_is_let_go_of_stops_the_cluster(shell: Shell):
    """Stopping takes the lock, too."""
    command = [sys.executable, "-c", INTERRUPTED, "local", "up", "--foreground", "--no-node"]
    done = subprocess.run(command, env=shell.env, capture_output=True, text=True, timeout=120, check=False)

    assert done.stdout.splitlines()[-1] == "cluster default is stopped"
    assert shell.processes("default") == 0


def test_an_interrupted_start_leaves_nothing(shell: Shell):
    """Ctrl-C in the middle of `up` ends what was started until then."""
    child = shell.started("up", "--no-node")
    eventually((shell.state("default").pids / "kube-apiserver").exists, "an API server that was started")
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)

    assert shell.processes("default") == 0


def test_the_next_start_cleans_up_after_a_crash(shell: Shell):
    """A killed `up` leaves processes; the next one ends them and starts anew."""
    child = shell.started("up", "--no-node")
    eventually((shell.state("default").pids / "kube-apiserver").exists, "an API server that was started")
    child.kill()
    child.communicate(timeout=60)
    left = marked(CLUSTER_MARK, str(shell.state("default").root))
    said = shell.local("up", "--no-node")

    assert len(left) >= 2  # etcd and the API server at least: `up` went on until it was killed
    assert all(wait(process, seconds=0) for process in left)
    assert said.stdout.startswith(f"stopped {len(left)} processes")
    assert said.returncode == 0
    shell.local("down")


def test_a_cluster_that_lost_a_process_is_started_anew(shell: Shell):
    """`up` does not take half a cluster for a whole one."""
    shell.local("up", "--no-node")
    scheduler = json.loads((shell.state("default").pids / "kube-scheduler").read_text())
    os.kill(scheduler["pid"], signal.SIGKILL)
    eventually(lambda: identify(scheduler["pid"]) is None, "a scheduler that is gone")
    said = shell.local("up", "--no-node").stdout

    assert said.startswith("stopped 3 processes")
    assert "cluster default is ready after" in said
    assert shell.local("up", "--no-node").stdout.startswith("cluster default is already running\n")
    shell.local("down")


def test_a_pid_file_of_another_process_is_not_believed(shell: Shell):
    """Numbers are given again: a process that merely has the number of one of ours is never touched."""
    state = shell.state("default")
    state.create()
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        claimed = {"pid": stranger.pid, "started": 1, "boot": "another"}
        (state.pids / "etcd").write_text(json.dumps(claimed))
        shell.local("down")

        assert stranger.poll() is None
        stranger.kill()


def test_the_api_server_keeps_an_audit_log_and_takes_flags(shell: Shell):
    """Options of `up` reach the API server; asking a running cluster for other ones is refused."""
    shell.local("up", "--no-node", "--audit", "--apiserver-flag=--max-requests-inflight=123")
    state = shell.state("default")
    first = json.loads((state.logs / "audit.log").read_text().splitlines()[0])
    refused = shell.local("up", "--no-node")

    assert first["kind"] == "Event"
    api_server = json.loads((state.pids / "kube-apiserver").read_text())["pid"]
    assert "--max-requests-inflight=123" in Path(f"/proc/{api_server}/cmdline").read_text().split("\0")
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "finetune: cluster default is already running with other options: stop it first with `finetune local down"
    )
    shell.local("down")


def test_pools_of_a_file_have_nodes(shell: Shell, tmp_path: Path):
    """`up --pools FILE` shows Nodes without any CRD; `--crds` makes the objects too."""
    pool = tmp_path / "pool.yaml"
    pool.write_text(
        "apiVersion: finetune.dev/v1alpha1\nkind: GPUPool\nmetadata: {name: small}\nspec:\n"
        "  gpuType: NVIDIA-L4\n  gpusPerNode: 1\n  maxNodes: 9\n"
        "  node: {cpus: 4, memoryGiB: 16, ephemeralGiB: 64}\n  pricePerGPUHourUSD: '0.70'\n"
    )
    nodes = ["node/cpu-0", "node/small-0", "node/small-1", "node/small-2", "node/small-3"]

    def names() -> list[str]:
        return sorted(shell.local("kubectl", "get", "nodes", "-o", "name").stdout.split())

    assert shell.local("up", "--pools", str(pool)).returncode == 0
    eventually(lambda: names() == nodes, "the Nodes of the pool")
    shell.local("down", "--delete")
    assert shell.local("up", "--crds", "--pools", str(pool)).returncode == 0
    eventually(lambda: names() == nodes, "the Nodes of the pool")
    assert shell.local("kubectl", "get", "gpupools", "-o", "name").stdout == "gpupool.finetune.dev/small\n"
    shell.local("down")


def test_the_process_node_can_run_in_a_terminal(shell: Shell):
    """`finetune local node` serves a cluster that was started without it; a second one is refused."""
    shell.local("up", "--no-node")
    child = shell.started("node")
    eventually(lambda: "cpu-0" in shell.local("kubectl", "get", "nodes", "-o", "name").stdout, "a Node")
    refused = shell.local("node")
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)

    assert refused.stderr == "finetune: cluster default already has a process node: see `finetune local status`\n"
    assert child.returncode == 0
    shell.local("down")


def test_a_bad_name_is_refused(shell: Shell):
    """The name becomes a folder, so it is checked."""
    answer = shell.local("up", "--name", "../x")

    assert answer.returncode == 1
    assert answer.stderr == (
        "finetune: '../x' is not a valid cluster name: use at most 40 lower-case letters, digits and '-',"
        " such as 'default'\n"
    )
