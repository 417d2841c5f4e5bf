"""The trace of a job, as a collector receives it from a real operator; without a collector jobs run as before."""

import json
from uuid import UUID

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import a_job, training_fails, training_succeeds
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, reaches
from tests.servers.otlp import otlp

pytestmark = pytest.mark.cluster


def test_a_jobs_way_is_one_trace(api: Client, standin: StandIn, namespace: str, start_operator: StartOperator):
    """Preflight, plan, each wait and attempt, also by an operator that was started in between; the trace is named by the job's uid."""
    standin.scripts["traced"] = {
        "0": training_fails("OutOfMemory", "no memory left", exit_code=86),
        "1": training_succeeds(),
    }
    with otlp() as collector:
        options = (f"--otlp-endpoint={collector.endpoint}",)
        first = start_operator(*options)
        first.start()
        api.create(jobs(namespace), a_job("traced"))
        eventually(lambda: api.get(f"{jobs(namespace)}/traced").get("status", {}).get("attempts"), "it is planned", 60)
        first.terminate()
        second = start_operator(*options)
        second.start()
        job = reaches(api, namespace, "traced", "Succeeded")
        second.terminate()
        (root,) = collector.named(f"{namespace}/traced")
        inside = [each for each in collector.spans if each is not root]

    uid = UUID(job["metadata"]["uid"])
    assert {each.trace_id for each in collector.spans} == {uid.bytes}
    assert root.parent_span_id == b""
    assert {each.parent_span_id for each in inside} == {root.span_id}
    assert sorted(each.name for each in inside if each.name != "publish") == [
        "attempt", "attempt", "plan", "preflight", "queue", "queue",
    ]  # fmt: skip
    failed = [
        each.status.message for each in collector.named("attempt") if each.status.code == Status.STATUS_CODE_ERROR
    ]
    assert failed == ["no memory left"]
    assert all(root.start_time_unix_nano <= each.start_time_unix_nano for each in inside)


def test_a_collector_that_is_not_there_stops_nothing(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, free_port: int
):
    """The job runs, the operator ends as fast as ever, and the log says why there are no traces."""
    operator = start_operator(f"--otlp-endpoint=http://127.0.0.1:{free_port}", "--log-format=json")
    operator.start(wait=False)
    api.create(jobs(namespace), a_job("one"))
    reaches(api, namespace, "one", "Succeeded")
    code = operator.terminate()

    assert code == 0
    assert any("opentelemetry" in json.loads(line).get("logger", "") for line in operator.text.splitlines())
