"""Clocks that differ, nodes that die: nothing is given up early, nothing is waited for for ever, no second is billed twice."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.kubelet import Kubelet, ended
from tests.cluster.plays import Play, preempted

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("seconds", [120, -120])
def test_an_operator_whose_clock_is_wrong_waits_as_long_as_any(
    api: Client, kubelet: Kubelet, start_operator: StartOperator, seconds: int
):
    """A suspended trainer is given its grace: its checkpoint is kept, and its seconds are billed by the API's times."""
    name = f"skewed{seconds}".replace("-", "-b")
    operator = start_operator()
    operator.program = ("-m", "tests.cluster.skewed_operator", str(seconds))
    operator.start()
    kubelet.apply(name)
    kubelet.run(f"{name}-0-0")
    kubelet.says(name, "Running")

    api.patch(f"{kubelet.jobs}/{name}", {"spec": {"suspend": True}})
    kubelet.says(name, "Suspending")
    eventually(
        lambda: "deletionTimestamp" in api.get(kubelet.path(f"{name}-0-0"))["metadata"], "the Pod is told to end"
    )
    api.patch(f"{kubelet.jobs}/{name}", {"metadata": {"labels": {"look": "again"}}})
    operator.said("phase=Training", times=2)
    assert kubelet.attempt(name, 0, ended=False).get("outcome") is None
    kubelet.status(f"{name}-0-0", "Failed", {"trainer": ended(preempted(40))})
    kubelet.remove(f"{name}-0-0")

    attempt = kubelet.attempt(name, 0)
    assert (attempt["outcome"], attempt["checkpointStep"]) == ("Suspended", 40)
    assert attempt.get("gpuSeconds", 0) < 60
    kubelet.says(name, "Suspended: spec.suspend is true: set it to false to resume from step 40")


def test_the_pods_of_a_pool_that_tolerates_everything_leave_a_dead_node(
    api: Client, kubelet: Kubelet, start_operator: StartOperator
):
    """They bring the five minutes that Kubernetes gives to other Pods."""
    tolerant = {"tolerations": [{"operator": "Exists"}]}
    api.patch("/apis/finetune.dev/v1alpha1/gpupools/manual", {"spec": tolerant})
    try:
        start_operator().start()
        kubelet.apply("tolerant")
        pod = kubelet.bound("tolerant-0-0")
    finally:
        taint = {"key": "manual.test/node", "operator": "Exists", "effect": "NoSchedule"}
        api.patch("/apis/finetune.dev/v1alpha1/gpupools/manual", {"spec": {"tolerations": [taint]}})

    found = {each.get("key", ""): each.get("tolerationSeconds") for each in pod["spec"]["tolerations"]}
    assert found == {"": None, "node.kubernetes.io/not-ready": 300, "node.kubernetes.io/unreachable": 300}


@pytest.mark.parametrize("hours", [2, -2])
def test_a_node_whose_clock_is_wrong_neither_bills_nor_delays(
    kubelet: Kubelet, start_operator: StartOperator, hours: int
):
    """The kubelet tells the end of a container by its node's clock: two hours ahead would be two hours of GPUs and of waiting."""
    start_operator("--retry-back-off-seconds=1").start()
    name = f"clock-{hours}".replace("--", "-b")
    kubelet.apply(name)
    kubelet.run(f"{name}-0-0")
    kubelet.says(name, "Running")
    state = ended(Play(exit_code=1))
    state["terminated"]["finishedAt"] = text(datetime.now(UTC) + timedelta(hours=hours))

    kubelet.status(f"{name}-0-0", "Failed", {"trainer": state})

    kubelet.bound(f"{name}-1-0")
    first = kubelet.attempt(name, 0)
    assert first.get("gpuSeconds", 0) < 120
    assert first["startTime"] <= first["endTime"] <= text(datetime.now(UTC))


def text(moment: datetime) -> str:
    """Spell a moment as the API does."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
