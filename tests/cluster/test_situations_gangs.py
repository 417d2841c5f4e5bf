"""Runs on several nodes, of which something happens to one."""

import pytest

from tests.cluster.client import ApiError, Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.kubelet import POOL, RUNNING, Kubelet, ended, is_deleted, waits
from tests.cluster.plays import preempted, training_fails, training_succeeds
from tests.cluster.standin import now_text

pytestmark = pytest.mark.cluster


def test_a_replica_that_has_ended_may_go_while_the_result_is_uploaded(
    api: Client, kubelet: Kubelet, start_operator: StartOperator
):
    """An autoscaler removes its idle node with the Pod, then the operator restarts: replica 0 is left alone with its upload."""
    operator = start_operator()
    operator.start()
    kubelet.apply("uploads", resources={"pools": [POOL], "gpus": 16}, training={"globalBatchSize": 16})
    for replica in range(2):
        kubelet.run(f"uploads-0-{replica}")
    kubelet.says("uploads", "Running")

    kubelet.status("uploads-0-1", "Succeeded", {"trainer": ended(training_succeeds())})
    kubelet.says("uploads", "Publishing")
    assert operator.terminate() == 0
    kubelet.remove("uploads-0-1")
    operator.start()
    kubelet.apply("later", planOnly=True)
    kubelet.says("later", "PlanOnly")

    assert not is_deleted(api.get(kubelet.path("uploads-0-0")))
    kubelet.status("uploads-0-0", "Succeeded", {"trainer": ended(training_succeeds())})
    kubelet.says("uploads", "Published", "Succeeded")
    assert [each["outcome"] for each in kubelet.job("uploads")["status"]["attempts"]] == ["Succeeded"]


def test_a_budget_for_disruptions_lets_a_drain_through_if_it_is_a_number(
    api: Client, kubelet: Kubelet, start_operator: StartOperator
):
    """maxUnavailable asks for the scale of a job, which has none, and would keep every trainer on its node."""
    start_operator().start()
    kubelet.apply("drained")
    kubelet.bound("drained-0-0")
    ready = [{"type": "Ready", "status": "True", "lastTransitionTime": now_text()}]
    kubelet.status("drained-0-0", "Running", {"trainer": RUNNING}, conditions=ready)
    kubelet.says("drained", "Running")
    budgets = f"/apis/policy/v1/namespaces/{kubelet.namespace}/poddisruptionbudgets"
    trainers = {"matchLabels": {"finetune.dev/role": "trainer"}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "trainers"}}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "drained-0-0"}}

    api.create(budgets, budget | {"spec": {"maxUnavailable": 1, "selector": trainers}})
    eventually(lambda: "SyncFailed" in str(api.get(f"{budgets}/trainers")["status"]), "it cannot count the Pods")
    with pytest.raises(ApiError, match="disruption budget"):
        api.create(f"{kubelet.path('drained-0-0')}/eviction", eviction)

    api.delete(f"{budgets}/trainers")
    api.create(budgets, budget | {"spec": {"minAvailable": 0, "selector": trainers}})
    eventually(lambda: api.get(f"{budgets}/trainers")["status"].get("expectedPods"), "the budget is looked at")
    api.create(f"{kubelet.path('drained-0-0')}/eviction", eviction)
    kubelet.status("drained-0-0", "Failed", {"trainer": ended(preempted(7))})
    kubelet.remove("drained-0-0")
    assert kubelet.attempt("drained", 0)["outcome"] == "Evicted"


def test_a_replica_that_never_starts_is_why_the_others_give_up(kubelet: Kubelet, start_operator: StartOperator):
    """Its node cannot pull the image: that is told, the node is avoided, and no attempt counts although maxRetries is 1."""
    start_operator().start()
    spec = {"resources": {"pools": [POOL], "gpus": 16}, "training": {"globalBatchSize": 16}}
    kubelet.apply("absent", runPolicy={"maxRetries": 1}, **spec)
    kubelet.run("absent-0-1")
    node = kubelet.bound("absent-0-0")["spec"]["nodeName"]
    kubelet.status("absent-0-0", "Pending", {"trainer": waits("ImagePullBackOff", "no disk left")})
    kubelet.says("absent", "ImagePullFailed: attempt 1: Pod absent-0-0: ImagePullBackOff: no disk left")

    gave_up = ended(training_fails("CommunicationTimeout", "the replicas did not find each other"))
    kubelet.status("absent-0-1", "Failed", {"trainer": gave_up})
    kubelet.gone("absent-0-0")

    first = kubelet.attempt("absent", 0)
    assert (first["outcome"], first["failedNode"], first["message"]) == (
        "NodeRefused",
        node,
        f"Pod absent-0-0: ImagePullBackOff: no disk left (on node {node}); the other replicas gave up waiting for it",
    )
    assert node not in [kubelet.bound(f"absent-1-{replica}")["spec"]["nodeName"] for replica in range(2)]
    assert kubelet.job("absent")["status"].get("attemptsWithoutProgress", 0) == 0
