"""What a kubelet and a cluster do to a running job, and what becomes of it."""

import pytest

from tests.cluster.client import eventually
from tests.real_node.workspace import ENDLESS, LONG, Workspace

pytestmark = pytest.mark.real_node

DEAF = ["python3", "-c", "import time; time.sleep(600)"]
"""What a worker is while it imports: a Python that does not listen for SIGTERM."""

SIGTERM_EXIT = 128 + 15

FILL_MEMORY = """
import os, time
while True:
    if os.fork() == 0:
        held = bytearray(os.urandom(1)) * (150 << 20)
        time.sleep(600)
    time.sleep(0.02)
"""
"""Many processes, each smaller than the trainer: the kernel ends the largest one."""


def test_suspend_saves_on_sigterm_and_resume_goes_on_there(workspace: Workspace):
    """SIGTERM from the kubelet becomes a checkpoint within the grace period; the next attempt starts at that step."""
    workspace.submit("paused", **LONG)
    workspace.saves("paused")
    workspace.change("paused", {"suspend": True})
    workspace.until("paused", lambda status: status.get("phase") == "Suspended", "Suspended")
    eventually(lambda: not workspace.pods("paused"), "its Pods are gone")
    workspace.change("paused", {"suspend": False})
    status = workspace.finish("paused")
    first, second = status["attempts"]

    assert (first["outcome"], second["outcome"]) == ("Suspended", "Succeeded")
    assert second["firstStep"] == first["lastStep"] == first["checkpointStep"] > 0
    assert status["progress"]["step"] == 240


def test_a_drained_node_hands_the_job_to_the_other_one(workspace: Workspace):
    """kubectl drain evicts the trainer and the leading operator at once; the trainer saves and goes on elsewhere.

    Whoever leads then says why the attempt ended, even if its Pod was gone before.
    """
    node = workspace.installation.leader_node()
    (other,) = (each.name for each in workspace.installation.cluster.nodes if each.name != node)
    workspace.cluster.kubectl("cordon", other)
    try:
        workspace.submit("drained", **LONG)
        workspace.saves("drained")
    finally:
        workspace.cluster.kubectl("uncordon", other)
    try:
        workspace.cluster.kubectl("drain", node, "--delete-emptydir-data", "--timeout=50s")
        status = workspace.until("drained", lambda status: len(status["attempts"]) == 2, "a second attempt")
        workspace.saves("drained", attempt=1)
        second_node = workspace.node_of("drained-1-0")
    finally:
        workspace.cluster.kubectl("uncordon", node)
    status = workspace.finish("drained")
    first, second = status["attempts"]

    assert (first["outcome"], second["outcome"]) == ("Evicted", "Succeeded")
    assert second["firstStep"] == first["lastStep"] == first["checkpointStep"] > 0
    assert second_node == other


def test_a_container_that_reaches_its_memory_limit_says_so(workspace: Workspace):
    """The kernel kills the worker, the kubelet says OOMKilled, and the next attempt gets more memory."""
    workspace.submit("hungry", **ENDLESS)
    step = workspace.saves("hungry")
    workspace.execute("hungry-0-0", "python3", "-c", FILL_MEMORY, check=False)
    status = workspace.until("hungry", lambda status: status["attempts"][0].get("outcome"), "the attempt ended", 60)
    (first, *_) = status["attempts"]

    assert (first["outcome"], first["message"]) == (
        "HostOutOfMemory",
        "Pod hungry-0-0 was killed because it reached its memory limit; it had 7 GiB of host memory; the next attempt gets 11 GiB",
    )
    assert first["checkpointStep"] >= step
    assert workspace.limit("hungry-1-0", "memory") == "11Gi"


def test_a_full_workspace_is_evicted_and_the_next_attempt_goes_on(workspace: Workspace):
    """The kubelet evicts a Pod that uses more local disk than it may."""
    workspace.submit("full", **ENDLESS)
    step = workspace.saves("full")
    gib = workspace.status("full")["plan"]["host"]["ephemeralGiB"]
    workspace.execute("full-0-0", "fallocate", "--length", f"{gib + 1}G", "/workspace/filling")
    workspace.until("full", lambda status: status["attempts"][0].get("outcome"), "the attempt ended", 150)
    status = workspace.until(
        "full",
        lambda status: len(status["attempts"]) == 2 and status["attempts"][1]["firstStep"] >= step,
        "the next attempt goes on from the checkpoint",
    )
    (first, _) = status["attempts"]

    assert (first["outcome"], first["message"]) == (
        "StorageFull",
        'Pod full-0-0 was evicted: Usage of EmptyDir volume "workspace" exceeds the limit "11Gi"; '
        "it had 11 GiB of local disk; the next attempt gets 17 GiB",
    )
    assert workspace.limit("full-1-0", "ephemeral-storage") == "17Gi"


def test_a_pod_that_does_not_listen_yet_ends_when_it_is_told_to(workspace: Workspace):
    """SIGTERM ends it, and not SIGKILL after its grace period, in which it would hold its GPUs."""
    workspace.submit("examined", planOnly=True)
    workspace.until("examined", lambda status: status.get("phase") == "Planned", "Planned")
    (preflight,) = workspace.pods("examined", role="preflight")
    (container,) = preflight["spec"]["containers"]
    metadata = {"name": "deaf", "namespace": workspace.namespace, "finalizers": ["example.com/look"]}
    spec = preflight["spec"] | {"containers": [container | {"command": DEAF, "args": []}]}
    workspace.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    pod = ("pod/deaf", "-n", workspace.namespace)
    try:
        workspace.cluster.kubectl("wait", *pod, "--for=condition=Ready", "--timeout=50s")
        workspace.cluster.kubectl("delete", *pod, "--wait=false")
        ended = eventually(lambda: workspace.end_of("deaf"), "the Pod ended", 60)
    finally:
        workspace.cluster.kubectl("patch", *pod, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')

    assert ended["exitCode"] == SIGTERM_EXIT


def test_a_gpu_that_turns_unhealthy_stays_with_its_job_and_is_given_to_no_other(workspace: Workspace):
    """The running job ends well; a new one is examined and planned, then waits with the scheduler's words."""
    cluster = workspace.installation.cluster
    workspace.submit("old", **LONG)
    workspace.saves("old")
    for node in cluster.nodes:
        node.fail_gpu(0)
    try:
        for node in cluster.nodes:
            cluster.await_gpus(node.name, 0)
        workspace.submit("new")
        waits = workspace.until(
            "new", lambda status: workspace.condition(status, "PodsReady")[1] == "Unschedulable", "Unschedulable"
        )
        old = workspace.finish("old")
    finally:
        for node in cluster.nodes:
            node.heal_gpus()
    message = workspace.condition(waits, "PodsReady")[2]

    assert [attempt["outcome"] for attempt in old["attempts"]] == ["Succeeded"]
    assert message.startswith("attempt 1: 0/2 nodes are available: "), message
    assert "2 Insufficient nvidia.com/gpu." in message  # the node of the running job may lack CPUs, too
    assert [attempt["outcome"] for attempt in workspace.finish("new")["attempts"]] == ["Succeeded"]
