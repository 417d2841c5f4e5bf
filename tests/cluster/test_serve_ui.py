"""The jobs on the page of `finetune serve-ui`, read from a real API server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from finetune_operator.local.ports import free_port

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import a_job
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, reaches
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


@pytest.fixture
def address(control_plane: ControlPlane, tmp_path: Path) -> Iterator[str]:
    """A server that reads the test's cluster."""
    port = free_port(set())
    command = [
        sys.executable,
        "-m",
        "finetune_operator",
        "serve-ui",
        f"--port={port}",
        f"--kubeconfig={control_plane.kubeconfig}",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            eventually(lambda: asked(f"http://127.0.0.1:{port}/healthz")[0] == 200, "the server answers", 60)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def asked(url: str, **headers: str) -> tuple[int, str]:
    """Return status and text; 0 where nobody answers."""
    try:
        with urlopen(Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_the_page_has_the_jobs_their_reports_and_what_each_namespace_uses(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, address: str
):
    """A finished job with the columns of `finetune get`, and its report as a page of its own."""
    start_operator().start()
    api.create(jobs(namespace), a_job("shown"))
    reaches(api, namespace, "shown", "Succeeded")

    status, text = asked(f"{address}/api/jobs")
    found = json.loads(text)
    (mine,) = (job for job in found["jobs"] if job["namespace"] == namespace)
    (use,) = (each for each in found["use"] if each["namespace"] == namespace)
    report_status, report = asked(f"{address}/jobs/{namespace}/shown")

    assert status == 200
    assert (mine["name"], mine["phase"], mine["model"]) == ("shown", "Succeeded", "test/tiny")
    assert (use["runningJobs"], use["waitingJobs"]) == (0, 0)
    assert report_status == 200
    assert f"<title>{namespace}/shown: Succeeded</title>" in report


def test_what_is_not_there_is_said(namespace: str, address: str):
    """And a page of another host, which a browser was led here by, gets nothing."""
    status, text = asked(f"{address}/jobs/{namespace}/nobody")

    assert (status, json.loads(text)) == (404, {"error": f"FineTuneJob nobody not found in namespace {namespace}"})
    assert asked(f"{address}/api/jobs", Host="evil.example") == (400, "Invalid host header")
