"""Two operators: one leads, the other waits with warm watches, and knows what it saw while it waited."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.faults import FaultProxy
from tests.cluster.operator_process import OperatorProcess
from tests.cluster.plays import Play, a_job, preempted
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import attempts, jobs, pods, reaches

pytestmark = pytest.mark.cluster


@dataclass(frozen=True)
class Replica:
    """An operator and what it says to the API server."""

    operator: OperatorProcess
    proxy: FaultProxy


@contextmanager
def two_operators(
    api: Client, namespace: str, start_operator: StartOperator, folder: Path
) -> Iterator[tuple[Replica, Replica]]:
    """Start a leader and a standby whose watches are warm."""
    proxies = [FaultProxy(api.kubeconfig, folder / name) for name in ("a", "b")]
    for each in proxies:
        each.folder.mkdir()
        each.start()
    lease = ("--leader-elect", f"--lease-namespace={namespace}")
    first, second = (Replica(start_operator(*lease, kubeconfig=each.operator_kubeconfig), each) for each in proxies)
    try:
        first.operator.start()
        second.operator.start(wait=False)
        eventually(lambda: any("/leases/" in call[1] for call in second.proxy.calls), "the second asks for the lease")
        second.proxy.wait_for_watches()
        yield first, second
    finally:
        for replica in (first, second):
            replica.operator.close()
        for each in proxies:
            each.stop()


def test_of_two_operators_one_writes_and_the_other_takes_over(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, tmp_path: Path
):
    """The second one waits with warm watches; SIGTERM of the leader hands over at once."""
    with two_operators(api, namespace, start_operator, tmp_path) as (first, second):
        standin.scripts["handed"] = {"0": Play(hold=True)}
        api.create(jobs(namespace), a_job("alone"))
        api.create(jobs(namespace), a_job("handed"))
        reaches(api, namespace, "alone", "Succeeded")
        reaches(api, namespace, "handed", "Training")
        assert (bool(first.proxy.writes), second.proxy.writes) == (True, [])

        code = first.operator.terminate()
        second.operator.said("ready jobs=")
        written = len(first.proxy.writes)
        api.delete(f"{pods(namespace)}/handed-0-0")
        reaches(api, namespace, "handed", "Succeeded")
        assert (code, bool(second.proxy.writes), len(first.proxy.writes)) == (0, True, written)
        holder = api.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/finetune-operator")["spec"]
        assert holder["leaseTransitions"] == 1


def test_a_pod_that_went_with_the_leader_ends_as_what_the_standby_saw(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, tmp_path: Path
):
    """As when a drain takes both: the Pod saves, ends and is gone before anybody who may write has recorded it."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "both-0-0"}}
    with two_operators(api, namespace, start_operator, tmp_path) as (first, second):
        standin.scripts["both"] = {"0": Play(hold=True), "sigterm": preempted(7)}
        api.create(jobs(namespace), a_job("both"))
        reaches(api, namespace, "both", "Training")
        first.proxy.around_write = lambda *_: False
        api.create(f"{pods(namespace)}/both-0-0/eviction", eviction)
        eventually(lambda: api.find(f"{pods(namespace)}/both-0-0") is None, "the Pod is gone")
        first.operator.terminate()
        second.operator.said("ready jobs=")

        job = reaches(api, namespace, "both", "Succeeded")

    ended, _ = job["status"]["attempts"]
    assert attempts(job) == [(0, "Evicted"), (1, "Succeeded")]
    assert (ended["lastStep"], ended["checkpointStep"], ended["message"]) == (7, 7, "saved")


def test_an_api_server_that_takes_seconds_does_not_cost_the_lead(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, proxy: FaultProxy
):
    """Its store is on slow disks: every request about the Lease takes two seconds, and one in a while gets no answer in time."""
    asked: list[str] = []

    def lag(call: tuple[str, str]) -> float:
        if "/leases" not in call[1]:
            return 0
        asked.append(call[0])
        return 6 if len(asked) % 5 == 0 else 2

    proxy.lag = lag
    operator = start_operator("--leader-elect", f"--lease-namespace={namespace}", kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    eventually(lambda: len(asked) >= 12, "the lease was renewed again and again", 90)
    api.create(jobs(namespace), a_job("led"))

    reaches(api, namespace, "led", "Succeeded")
    holder = api.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/finetune-operator")["spec"]
    assert (holder["leaseTransitions"], operator.terminate()) == (0, 0)
