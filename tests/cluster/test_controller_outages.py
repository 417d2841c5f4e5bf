"""The API server is away, broken, or refuses us: recover, or end quickly with a failure. Never a zombie."""

import pytest

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.faults import FaultProxy
from tests.cluster.plays import Play, a_job
from tests.cluster.standin import StandIn
from tests.cluster.stories import GANG
from tests.cluster.test_controller_runs import attempts, jobs, reaches

pytestmark = pytest.mark.cluster


def test_it_survives_an_api_server_that_is_away(
    api: Client, standin: StandIn, namespace: str, proxy: FaultProxy, start_operator: StartOperator
):
    """Connections are refused while a job trains; when they are accepted again, what happened meanwhile is found."""
    standin.scripts["away"] = {"0": Play(hold=True)}
    operator = start_operator(kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    api.create(jobs(namespace), a_job("away"))
    reaches(api, namespace, "away", "Training")
    proxy.refuse()
    api.patch(f"{jobs(namespace)}/away", {"spec": {"suspend": True}})
    api.create(jobs(namespace), a_job("meanwhile"))
    proxy.listen()

    reaches(api, namespace, "away", "Suspended")
    assert attempts(reaches(api, namespace, "meanwhile", "Succeeded")) == [(0, "Succeeded")]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_it_survives_an_api_server_that_fails(
    api: Client, standin: StandIn, namespace: str, proxy: FaultProxy, start_operator: StartOperator, status: int
):
    """Every request fails twice before it is answered: slower, but the same end."""
    seen: dict[tuple[str, str], int] = {}

    def fail_twice(call: tuple[str, str]) -> int | None:
        seen[call] = seen.get(call, 0) + 1
        return status if seen[call] <= 2 and call[0] != "GET" else None

    proxy.answer_instead = fail_twice
    operator = start_operator(kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    api.create(jobs(namespace), a_job("slow"))

    assert attempts(reaches(api, namespace, "slow", "Succeeded")) == [(0, "Succeeded")]
    assert "reconciliation failed; retrying" in operator.text


def test_a_gate_that_cannot_be_lifted_yet_costs_no_attempt(
    api: Client, standin: StandIn, namespace: str, proxy: FaultProxy, start_operator: StartOperator
):
    """One replica of a gang waits for the other, whose gate the API server does not lift at first."""
    refused: list[str] = []

    def fail_twice(call: tuple[str, str]) -> int | None:
        if call[0] != "PATCH" or not call[1].endswith("/pods/halved-0-0") or len(refused) >= 2:
            return None
        refused.append(call[1])
        return 500

    proxy.answer_instead = fail_twice
    operator = start_operator(kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    api.create(jobs(namespace), a_job("halved", **GANG))

    assert attempts(reaches(api, namespace, "halved", "Succeeded")) == [(0, "Succeeded")]
    assert len(refused) == 2


def test_refused_credentials_end_it(api: Client, namespace: str, proxy: FaultProxy, start_operator: StartOperator):
    """401 without end: kopf alone would stay without watches, and deaf to SIGTERM."""
    operator = start_operator("--refused-seconds=2", "--resync-seconds=1", kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    proxy.wait_for_watches()
    proxy.answer_instead = lambda _: 401
    proxy.send_error({"kind": "Status", "code": 410, "message": "too old resource version"})

    assert operator.wait(30) == 1
    assert "rejects the operator's credentials (401)" in operator.text


def test_credentials_that_are_accepted_again_are_enough(
    api: Client, standin: StandIn, namespace: str, proxy: FaultProxy, start_operator: StartOperator
):
    """A short burst of 401, as from an API server that starts, costs nothing."""
    operator = start_operator(kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    proxy.wait_for_watches()
    refused: list[str] = []

    def burst(call: tuple[str, str]) -> int | None:
        if len(refused) >= 12:
            return None
        refused.append(call[1])
        return 401

    proxy.answer_instead = burst
    proxy.send_error({"kind": "Status", "code": 410, "message": "too old resource version"})
    eventually(lambda: len(refused) >= 12, "twelve refusals")
    api.create(jobs(namespace), a_job("trusted"))

    assert attempts(reaches(api, namespace, "trusted", "Succeeded")) == [(0, "Succeeded")]


def test_a_watch_of_pods_that_lost_its_place_lists_them_again(
    api: Client, standin: StandIn, namespace: str, proxy: FaultProxy, start_operator: StartOperator
):
    """Their own watch finds what it missed; the comparison of everything is minutes away."""
    operator = start_operator(kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    proxy.wait_for_watches()
    proxy.drop_event = lambda event: event["object"].get("kind") == "Pod"
    api.create(jobs(namespace), a_job("missed"))
    pod = f"/api/v1/namespaces/{namespace}/pods/missed-preflight-1"
    eventually(lambda: (api.find(pod) or {}).get("status", {}).get("phase") == "Succeeded", "preflight has ended")
    proxy.drop_event = lambda _: False
    proxy.send_error({"kind": "Status", "code": 410, "message": "too old resource version"}, of="/pods")

    assert attempts(reaches(api, namespace, "missed", "Succeeded")) == [(0, "Succeeded")]
    assert "full comparison found missed changes" not in operator.text


def test_a_watch_that_is_gone_for_good_ends_it(
    api: Client, namespace: str, proxy: FaultProxy, start_operator: StartOperator
):
    """HTTP 410 on the watch itself: the process ends with a failure, and its successor lists anew."""
    operator = start_operator(kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    proxy.wait_for_watches()
    proxy.answer_instead = lambda call: 410 if call[1].endswith("/finetunejobs") else None
    proxy.send_error({"kind": "Status", "code": 410, "message": "too old resource version"})

    assert operator.wait(20) == 1


def test_a_leader_that_cannot_renew_ends_in_time(
    api: Client, namespace: str, proxy: FaultProxy, start_operator: StartOperator
):
    """Before the lease runs out for others, the old leader is gone."""
    options = ("--leader-elect", f"--lease-namespace={namespace}")
    operator = start_operator(*options, kubeconfig=proxy.operator_kubeconfig)
    operator.start()
    proxy.refuse()

    assert operator.wait(15) == 1
    assert "leadership lost" in operator.text


def test_missing_crds_are_named(api: Client, namespace: str, proxy: FaultProxy, start_operator: StartOperator):
    """kopf would wait for ever, silently."""
    proxy.answer_instead = lambda call: 404 if call[1] == "/apis/finetune.dev/v1alpha1" else None
    operator = start_operator(kubeconfig=proxy.operator_kubeconfig)
    operator.start(wait=False)

    assert operator.wait(20) == 1
    assert (
        "finetune: the API server does not serve finetunejobs, finetuneplans, gpupools of finetune.dev/v1alpha1: "
        "run `kubectl apply --server-side -f crds/`" in operator.text
    )
