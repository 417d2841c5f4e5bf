"""A pool without free nodes, on the real API server with its scheduler."""

from collections.abc import Iterator

import pytest

from tests.cluster.client import FINETUNE, Client
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import LABEL, POOL, a_job, a_pool
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import attempts, jobs, reaches

pytestmark = pytest.mark.cluster

SOLD_OUT = "sold-out"


@pytest.fixture
def sold_out(api: Client) -> Iterator[str]:
    """The cheapest pool, whose nodes the cloud does not have."""
    pool = a_pool()
    pool["metadata"] = {"name": SOLD_OUT}
    pool["spec"] |= {
        "nodeSelector": [{"key": LABEL, "value": SOLD_OUT}], "pricePerGPUHourUSD": "0.50", "provisioningSeconds": 10,
    }  # fmt: skip
    api.ensure(f"{FINETUNE}/gpupools", pool)
    yield SOLD_OUT
    api.delete(f"{FINETUNE}/gpupools/{SOLD_OUT}")


def test_a_job_leaves_a_pool_without_nodes_if_it_may(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, sold_out: str
):
    """The scheduler finds no node for the first attempt; the second one runs on the dearer pool, at its price."""
    start_operator().start()
    resources = {"pools": [sold_out, POOL], "optimizeFor": "cost", "failover": True}
    api.create(jobs(namespace), a_job("moves", resources=resources))

    job = reaches(api, namespace, "moves", "Succeeded")

    plan = job["status"]["plan"]
    assert attempts(job) == [(0, "NotScheduled"), (1, "Succeeded")]
    assert (plan["pool"]["name"], plan["pool"]["pricePerGPUHourUSD"]) == (POOL, "2.00")
    assert plan["warnings"][0] == "pool sold-out had no free nodes for 10 s: the job moved to pool standin"
    assert job["status"]["replanned"] == {"pools": [sold_out]}
