"""The chart's alerts, dashboard and monitors, on the real Prometheus and with the definitions of the Prometheus Operator."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from finetune_operator.local.binaries import Binary
from finetune_operator.local.ports import free_port
from finetune_operator.local.provide import provide

from tests.cluster.client import FINETUNE, Client, Raw, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import LABEL, a_job, a_pool, preflight_fails, preflight_succeeds, training_succeeds
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, reaches
from tests.gitops.programs import PROMETHEUS, PROMETHEUS_OPERATOR, PROMTOOL, module_folder
from tests.golden.chart import rendered
from tests.servers.control_plane import ControlPlane
from tests.servers.helm import ROOT, objects

pytestmark = pytest.mark.gitops

FILES = ROOT / "charts/finetune-operator/files"
TESTS = Path(__file__).with_name("alerts_test.yaml")


def program(binary: Binary) -> str:
    return str(provide([binary], say=print)[binary.name])


def test_every_alert_fires_on_what_it_is_for(tmp_path: Path):
    """promtool finds no fault in the rules, and each alert says what the test expects, when it expects it."""
    (tmp_path / "alerts.yaml").write_text((FILES / "alerts.yaml").read_text())
    (tmp_path / "tests.yaml").write_text(TESTS.read_text())
    tested = {
        case["alertname"] for test in yaml.safe_load(TESTS.read_text())["tests"] for case in test["alert_rule_test"]
    }
    written = {
        rule["alert"]
        for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
        for rule in group["rules"]
    }

    for command in (("check", "rules", "alerts.yaml"), ("test", "rules", "tests.yaml")):
        answer = subprocess.run(
            [program(PROMTOOL), *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (answer.returncode, answer.stderr) == (0, ""), answer.stdout + answer.stderr
    assert tested == written


def test_the_monitors_are_what_the_prometheus_operator_defines(api: Client, control_plane: ControlPlane):
    """Fields validated strictly against its own definitions."""
    folder = module_folder(PROMETHEUS_OPERATOR) / "example/prometheus-operator-crd"
    for plural in ("podmonitors", "servicemonitors", "prometheusrules"):
        control_plane.kubectl("apply", "--server-side", "-f", str(folder / f"monitoring.coreos.com_{plural}.yaml"))
        control_plane.kubectl(
            "wait", "--for=condition=Established", f"crd/{plural}.monitoring.coreos.com", "--timeout=50s"
        )
    manifests = [
        each for each in objects(rendered("high-availability")) if each["apiVersion"].startswith("monitoring.")
    ]
    pod_monitor = next(each for each in manifests if each["kind"] == "PodMonitor")
    (endpoint,) = pod_monitor["spec"]["podMetricsEndpoints"]
    service = {"selector": pod_monitor["spec"]["selector"], "endpoints": [endpoint]}
    manifests.append(pod_monitor | {"kind": "ServiceMonitor", "spec": service})
    api.ensure("/api/v1/namespaces", {"metadata": {"name": "finetune-system"}})

    apply = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    answer = control_plane.kubectl(*apply, given=manifests)

    assert [each["kind"] for each in manifests] == ["PodMonitor", "PrometheusRule", "ServiceMonitor"]
    assert (len(answer.stdout.splitlines()), answer.stderr) == (3, "")


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    """Run a Prometheus with our alerts that scrapes one port; yields its address."""
    port = free_port(set())
    scrape = {"job_name": "finetune", "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(FILES / "alerts.yaml")],
        "scrape_configs": [scrape],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        program(PROMETHEUS),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def asked(address: str, path: str, **parameters: str) -> Raw:
    """Return what Prometheus answers."""
    with urlopen(f"{address}/api/v1/{path}?{urlencode(parameters)}", timeout=10) as answer:
        found: Raw = json.loads(answer.read())
    assert found["status"] == "success", found
    return found["data"]


def queries() -> list[str]:
    """Return every query of the dashboard, as Grafana asks it."""
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    return [target["expr"].replace("$__rate_interval", "5m") for panel in panels for target in panel["targets"]]


def test_every_query_of_the_dashboard_answers(
    api: Client, standin: StandIn, namespace: str, start_operator: StartOperator, tmp_path: Path
):
    """A real Prometheus that scrapes an operator: one job succeeded, one failed, one runs, one waits."""
    port = free_port(set())
    nowhere = a_pool() | {"metadata": {"name": f"{namespace}-nowhere"}}
    nowhere["spec"] |= {"nodeSelector": [{"key": LABEL, "value": "nowhere"}]}
    api.create(f"{FINETUNE}/gpupools", nowhere)
    standin.scripts |= {
        "bad": {"preflight": preflight_fails("DatasetInvalid", "row 7 has no messages")},
        "long": {"preflight": preflight_succeeds(), "0": training_succeeds(run_seconds=300)},
    }
    start_operator(f"--port={port}").start()
    with prometheus(tmp_path, port) as address:
        api.create(jobs(namespace), a_job("long"))
        reaches(api, namespace, "long", "Training")
        eventually(
            lambda: asked(address, "query", query="finetune_jobs")["result"], "Prometheus has scraped the operator"
        )
        api.create(jobs(namespace), a_job("waits", resources={"pools": [nowhere["metadata"]["name"]]}))
        for name, end in (("good", "Succeeded"), ("bad", "Failed")):
            api.create(jobs(namespace), a_job(name))
            reaches(api, namespace, name, end)

        for query in queries():
            eventually(lambda query=query: asked(address, "query", query=query)["result"], query, 120)
        rules = [rule for group in asked(address, "rules")["groups"] for rule in group["rules"]]

        api.delete(f"{FINETUNE}/gpupools/{nowhere['metadata']['name']}")

        assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
        assert len(queries()) > 15
