"""A job with a queue on a real API server that knows no Kueue."""

import pytest

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import a_job
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs

pytestmark = pytest.mark.cluster


def test_a_queue_without_kueue_is_said(api: Client, standin: StandIn, namespace: str, start_operator: StartOperator):
    """No Pod with a GPU is created, and the message says how the job goes on."""
    start_operator().start()
    api.create(jobs(namespace), a_job("waits", queueName="train"))

    def said() -> str:
        status = api.get(f"{jobs(namespace)}/waits").get("status", {})
        found = [each for each in status.get("conditions", ()) if each["reason"] == "QueueUnavailable"]
        return found[0]["message"] if found else ""

    message = eventually(said, "it is said", 60)
    pods = [each["metadata"]["name"] for each in api.items(f"/api/v1/namespaces/{namespace}/pods")]

    assert message == (
        "spec.queueName is train, but Kueue is not installed in this cluster: install it, or delete the job and apply it without queueName"
    )
    assert pods == ["waits-preflight-1"]
