"""An operator that is newer than the definitions in the cluster, which helm and GitOps may leave behind: it serves jobs and says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_operator.controller.resync import NO_POLICIES

from tests.cluster.client import FINETUNE, Client, eventually
from tests.cluster.conftest import CRDS, StartOperator, serves
from tests.cluster.plays import a_job
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, reaches
from tests.cluster.test_policies import a_policy, policies, said
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


@pytest.fixture
def before_policies(api: Client, control_plane: ControlPlane) -> Iterator[Path]:
    """A cluster that has no FineTunePolicies yet. Yields the file with their definition, which is applied in the end."""
    file = CRDS / "finetunepolicies.yaml"
    control_plane.kubectl("delete", "-f", str(file))
    eventually(lambda: api.find(f"{FINETUNE}/finetunepolicies") is None, "policies are not served")
    yield file
    control_plane.kubectl("apply", "--server-side", "-f", str(file))
    eventually(lambda: serves(api, "finetunepolicies"), "policies are served again")


@pytest.mark.parametrize("everywhere", [False, True], ids=["one namespace", "all namespaces"])
def test_an_operator_without_the_definition_of_policies_works_on(
    everywhere: bool, api: Client, control_plane: ControlPlane, standin: StandIn, namespace: str,
    start_operator: StartOperator, before_policies: Path,
):  # fmt: skip
    """Jobs run, the log says what is missing once, and a policy counts as soon as the definition is there."""
    operator = start_operator(everywhere=everywhere)
    operator.start()
    api.create(jobs(namespace), a_job("before"))
    reaches(api, namespace, "before", "Succeeded")
    told = operator.text.count(NO_POLICIES)
    control_plane.kubectl("apply", "--server-side", "-f", str(before_policies))
    eventually(lambda: serves(api, "finetunepolicies"), "policies are served")
    api.create(policies(namespace), a_policy(allow={"destinations": ["s3://elsewhere/"]}))
    eventually(
        lambda: api.get(f"{policies(namespace)}/default").get("status", {}).get("observedGeneration"),
        "the operator has seen the policy",
        60,
    )
    api.create(jobs(namespace), a_job("after"))
    refused = said(reaches(api, namespace, "after", "Failed"))

    assert told == 1
    assert refused[0] == "PolicyViolation"
