"""How Pods of the process node end: asked to, forced to, with their node, by a deadline."""

import json
import os

import pytest
from finetune_operator.local.processes import identify

from tests.cluster.client import eventually
from tests.cluster.pod_manifests import Gate, a_script, terminated
from tests.servers.control_plane import ProcessNode

pytestmark = pytest.mark.cluster


def test_deleting_a_pod_lets_it_end_gracefully(process_node: ProcessNode, node_namespace: str):
    """SIGTERM reaches the main process, and its last words are reported before the Pod is gone."""
    script = "trap 'printf saved > /dev/termination-log; exit 85' TERM; echo ready; while :; do sleep 0.05; done"
    process_node.cluster.apply(a_script(node_namespace, "p", script))
    process_node.cluster.phase("p", node_namespace, "Running")
    eventually(
        lambda: "ready" in process_node.cluster.kubectl("logs", "p", "-n", node_namespace).stdout, "it has started"
    )
    last = process_node.cluster.last_state_before_deletion("p", node_namespace)

    assert terminated(last) == (85, "Error", "saved")
    eventually(lambda: not list(process_node.cluster.state.pods.glob(f"{node_namespace}_p_*")), "its folder is gone")


def test_a_pod_that_ignores_sigterm_is_killed(process_node: ProcessNode, node_namespace: str):
    """After the grace period all its processes are gone, those that left its session included."""
    script = "trap '' TERM; setsid sleep 1000 & echo $!; echo up; while :; do sleep 0.05; done"
    process_node.cluster.apply(a_script(node_namespace, "p", script, pod={"terminationGracePeriodSeconds": 1}))
    process_node.cluster.phase("p", node_namespace, "Running")
    eventually(lambda: "up" in process_node.cluster.kubectl("logs", "p", "-n", node_namespace).stdout, "it has started")
    stray = int(process_node.cluster.kubectl("logs", "p", "-n", node_namespace).stdout.split()[0])
    main = process_node.container_pid(node_namespace, "p")
    last = process_node.cluster.last_state_before_deletion("p", node_namespace)

    assert terminated(last) == (137, "Error", "")
    assert identify(stray) is None
    assert identify(main) is None


def test_the_end_of_the_main_process_ends_the_others(process_node: ProcessNode, node_namespace: str):
    """As in a container, nothing outlives process 1."""
    process_node.cluster.apply(a_script(node_namespace, "p", "setsid sleep 1000 & echo $!"))
    process_node.cluster.phase("p", node_namespace, "Succeeded")
    printed = process_node.cluster.kubectl("logs", "p", "-n", node_namespace).stdout

    assert identify(int(printed)) is None


def test_a_forced_deletion_leaves_no_process(process_node: ProcessNode, node_namespace: str):
    """kubectl delete --force removes the object at once; the processes follow."""
    process_node.cluster.apply(a_script(node_namespace, "p", "sleep 1000"))
    process_node.cluster.phase("p", node_namespace, "Running")
    main = process_node.container_pid(node_namespace, "p")
    process_node.cluster.kubectl("delete", "pod", "p", "-n", node_namespace, "--force", "--grace-period=0")

    eventually(lambda: identify(main) is None, "its process is gone")


def test_a_pod_outlives_a_crash_of_the_node(process_node: ProcessNode, node_namespace: str):
    """The next node finds the running process, and the exit code of the one that ended meanwhile."""
    gate = Gate.made(process_node.cluster.state.root / f"gate-{node_namespace}")
    script = f"echo begun; {gate.wait}; printf over > /dev/termination-log; exit 86"
    process_node.cluster.apply(a_script(node_namespace, "p", script), a_script(node_namespace, "q", script))
    for name in ("p", "q"):
        process_node.cluster.phase(name, node_namespace, "Running")
    before = process_node.container_pid(node_namespace, "p")
    # q ends while no node runs
    process_node.stop()
    os.kill(process_node.container_pid(node_namespace, "q"), 9)
    process_node.restart()
    q = process_node.cluster.phase("q", node_namespace, "Failed")

    assert terminated(q) == (137, "Error", "")
    assert process_node.container_pid(node_namespace, "p") == before
    gate.open()
    assert terminated(process_node.cluster.phase("p", node_namespace, "Failed")) == (86, "Error", "over")
    assert process_node.cluster.kubectl("logs", "p", "-n", node_namespace).stdout == "begun\n"


def test_a_container_whose_supervisor_is_killed_is_lost(process_node: ProcessNode, node_namespace: str):
    """Nobody knows its exit code then: it is reported as a kubelet would, and its process does not live on."""
    process_node.cluster.apply(a_script(node_namespace, "p", "sleep 1000"))
    process_node.cluster.phase("p", node_namespace, "Running")
    main = process_node.container_pid(node_namespace, "p")
    supervisor = process_node.folder(node_namespace, "p") / "containers" / "main" / "supervisor.json"
    os.kill(json.loads(supervisor.read_text())["pid"], 9)
    pod = process_node.cluster.phase("p", node_namespace, "Failed")

    assert terminated(pod) == (
        137,
        "ContainerStatusUnknown",
        "The container could not be located when the pod was terminated",
    )
    assert identify(main) is None


def test_a_pod_may_have_a_deadline(process_node: ProcessNode, node_namespace: str):
    """activeDeadlineSeconds ends a Pod with the reason DeadlineExceeded."""
    spec = {"activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 1}
    process_node.cluster.apply(a_script(node_namespace, "p", "sleep 1000", pod=spec))
    status = process_node.cluster.phase("p", node_namespace, "Failed")["status"]

    assert (status["reason"], status["message"]) == (
        "DeadlineExceeded",
        "Pod was active on the node longer than the specified deadline",
    )
