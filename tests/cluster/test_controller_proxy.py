"""An operator whose API server is reached through a proxy only: requests and watches both go there."""

import json
import os
from pathlib import Path

import pytest

from tests.cluster.client import Client
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import a_job
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, reaches
from tests.servers.control_plane import ControlPlane
from tests.servers.proxy import proxy

pytestmark = pytest.mark.cluster


def test_a_job_runs_though_only_the_proxy_knows_the_api_server(
    api: Client, control_plane: ControlPlane, standin: StandIn, namespace: str, start_operator: StartOperator,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    """The operator would hear of no job if its watches ignored the proxy."""
    kubeconfig = json.loads(control_plane.kubeconfig.read_text())
    cluster = kubeconfig["clusters"][0]["cluster"]
    cluster["server"] = cluster["server"].replace("127.0.0.1", "kubernetes.default.svc")
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(kubeconfig))
    for name in [each for each in os.environ if each.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with proxy(tmp_path) as between:
        monkeypatch.setenv("HTTPS_PROXY", between.address)
        operator = start_operator("--resync-seconds=3600", kubeconfig=file)
        operator.start()
        api.create(jobs(namespace), a_job("one"))
        reaches(api, namespace, "one", "Succeeded")
        operator.terminate()

        assert between.asked_for == {"kubernetes.default.svc"}
