"""A Pod that has published a model and fails at a form of it, on the real API server with a stand-in trainer."""

from dataclasses import replace

import pytest

from tests.cluster.client import Client
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import Play, a_job, export_succeeds, training_leaves_its_model
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import attempts, condition, jobs, made, reaches
from tests.cluster.test_hand_over import AT_ONCE

pytestmark = pytest.mark.cluster


def test_a_form_that_fails_leaves_the_model_published(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator
):
    """The job ends without its form, and says where the model is."""
    published = export_succeeds().outcome
    assert published is not None
    refused = replace(published, outcome="Failed", reason="ExportFailed", message="llama.cpp does not know the model")
    standin.scripts["half"] = {"0": training_leaves_its_model(), "export": Play(exit_code=87, outcome=refused)}
    start_operator(AT_ONCE).start()
    output = {"destination": "s3://bucket/out", "exports": ["gguf-q8_0"]}
    api.create(jobs(namespace), a_job("half", method="full", output=output))

    job = reaches(api, namespace, "half", "Failed")

    assert condition(job, "Succeeded") == ("False", "ExportFailed")
    assert [each["uri"] for each in job["status"]["artifacts"]] == ["s3://bucket/out/model"]
    assert job["status"]["adapterURI"] == "s3://bucket/out/model"
    assert attempts(job) == [(0, "Succeeded")]
    assert made(standin, namespace) == {"half-preflight-1": 1, "half-0-0": 1, "half-export-0": 1}
