"""A full fine-tune whose model a Pod without GPUs publishes, on the real API server with a stand-in trainer."""

import pytest

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import CPU_NODE, Play, a_job, training_fails, training_leaves_its_model
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import attempts, condition, jobs, made, pods, reaches

pytestmark = pytest.mark.cluster

AT_ONCE = "--gpu-publish-seconds=0"


def test_a_model_is_published_after_the_gpus_are_free(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """The first try meets a bucket that does not answer. The operator is killed while the second runs, and the next one sees it end."""
    failed = training_fails("StorageUnavailable", "s3://bucket does not answer")
    standin.scripts["left"] = {"0": training_leaves_its_model(), "export/0": failed, "export/1": Play(hold=True)}
    first = start_operator(AT_ONCE)
    first.start()
    api.create(jobs(namespace), a_job("left", method="full"))
    eventually(lambda: made(standin, namespace).get("left-export-1"), "the second try is there")

    job = reaches(api, namespace, "left", "Publishing")
    assert (job["status"]["attempts"][0]["handedOver"], job["status"].get("artifacts")) == (True, None)
    assert condition(job, "Reconciling") == ("True", "Publishing")
    assert (condition(job, "Succeeded")[0], job["status"]["plan"]["export"]["publishes"]) == ("Unknown", True)
    pod = api.get(f"{pods(namespace)}/left-export-1")
    assert pod["spec"]["nodeName"] == CPU_NODE or "nvidia.com/gpu" not in str(pod["spec"]["containers"])
    ended = job["status"]["attempts"][0]
    first.kill()
    del standin.scripts["left"]["export/1"]
    api.delete(f"{pods(namespace)}/left-export-1")
    start_operator(AT_ONCE).start()

    job = reaches(api, namespace, "left", "Succeeded")

    assert condition(job, "Succeeded") == ("True", "Published")
    assert job["status"]["adapterURI"] == "s3://bucket/out/model"
    assert (attempts(job), job["status"]["attempts"][0].get("gpuSeconds")) == (
        [(0, "Succeeded")],
        ended.get("gpuSeconds"),
    )
    assert made(standin, namespace) == {"left-preflight-1": 1, "left-0-0": 1, "left-export-0": 1, "left-export-1": 2}


def test_the_bound_is_a_setting(api: Client, standin: StandIn, namespace: str, start_operator: StartOperator):
    """The model is small: by default its attempt publishes it."""
    start_operator().start()
    api.create(jobs(namespace), a_job("here", method="full"))

    job = reaches(api, namespace, "here", "Succeeded")

    assert job["status"]["plan"].get("export") is None
    assert made(standin, namespace) == {"here-preflight-1": 1, "here-0-0": 1}
