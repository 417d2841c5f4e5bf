"""Versions that differ: an operator beside older or newer images, and beside definitions that do not know its newest fields."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.client import FINETUNE, Client, Raw, eventually
from tests.cluster.conftest import CRDS, StartOperator, serves
from tests.cluster.kubelet import Kubelet, ended
from tests.cluster.plays import preempted, preflight_fails, training_succeeds
from tests.cluster.standin import StandIn
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster

NEWER = {
    "finetunejobs": (
        ("status", "cost", "wastedUSD"),
        ("status", "attempts", "costUSD"),
        ("status", "refusedNodes"),
        ("status", "evaluation"),
    ),
    "finetuneplans": (("preflight", "lengthStep"), ("plan", "flopsPerToken"), ("resolved", "podMetadata")),
}
"""Fields that the definitions of an earlier release would not have."""


def without(crd: Raw, path: tuple[str, ...]) -> None:
    """Take a field out of a definition."""
    node: Any = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for name in path[:-1]:
        node = node["properties"][name]
        node = node.get("items", node)
    del node["properties"][path[-1]]


@pytest.fixture
def older_definitions(api: Client, control_plane: ControlPlane) -> Iterator[None]:
    """The API server drops what an operator writes into fields that it does not know."""
    for name, fields in NEWER.items():
        crd = yaml.safe_load((CRDS / f"{name}.yaml").read_text())
        for path in fields:
            without(crd, path)
        control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=crd)
    served(api)
    yield
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    served(api)


def served(api: Client) -> None:
    """Wait until the storage of changed definitions is there again."""
    for plural in NEWER:
        eventually(lambda plural=plural: serves(api, plural), f"{plural} are served")


def test_a_job_runs_through_under_older_definitions(
    api: Client, kubelet: Kubelet, older_definitions: None, start_operator: StartOperator
):
    """helm leaves definitions as they are: the operator neither repeats its writes nor loses a Pod, and it may be restarted."""
    operator = start_operator()
    operator.start()
    kubelet.apply("older")
    kubelet.run("older-0-0")
    kubelet.says("older", "Running")
    operator.kill()
    operator.start()
    kubelet.status("older-0-0", "Failed", {"trainer": ended(preempted(9))})
    kubelet.attempt("older", 0)
    kubelet.run("older-1-0")
    kubelet.status("older-1-0", "Succeeded", {"trainer": ended(training_succeeds())})

    kubelet.says("older", "Published", "Succeeded")
    assert [each["outcome"] for each in kubelet.job("older")["status"]["attempts"]] == ["Preempted", "Succeeded"]
    (plan,) = api.items(f"{FINETUNE}/namespaces/{kubelet.namespace}/finetuneplans")
    assert "lengthStep" not in plan["preflight"]


def test_an_operator_that_was_rolled_back_hears_a_newer_trainer(kubelet: Kubelet, start_operator: StartOperator):
    """Its Pod runs on beside the older operator, and ends with figures that this one does not know."""
    start_operator().start()
    kubelet.apply("newer")
    kubelet.run("newer-0-0")
    state = ended(training_succeeds())
    said = state["terminated"]["message"]
    state["terminated"]["message"] = said.replace('"step":94', '"step":94,"carbonGrams":12', 1)
    assert state["terminated"]["message"] != said

    kubelet.status("newer-0-0", "Succeeded", {"trainer": state})

    kubelet.says("newer", "Published", "Succeeded")
    status = kubelet.job("newer")["status"]
    assert (len(status["attempts"]), status["adapterURI"]) == (1, "s3://bucket/out/adapter")


def test_an_image_that_is_too_old_is_told_before_a_gpu_is_used(
    standin: StandIn, kubelet: Kubelet, start_operator: StartOperator
):
    """In the image's words; when the chart names the right one, preflight runs again by itself."""
    words = "the image of this Pod is older than the operator and does not know the field shuffle, which the job uses"
    standin.scripts["outdated"] = {"preflight": preflight_fails("TrainerOutdated", words)}
    start_operator().start()
    kubelet.apply("outdated", planOnly=True)
    kubelet.says("outdated", f"TrainerOutdated: {words}; to retry, change the spec or repair the cause", "Stalled")

    del standin.scripts["outdated"]

    kubelet.says("outdated", "PlanOnly", seconds=60)
