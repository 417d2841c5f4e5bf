"""The jobs on the page of `finetune serve-ui`, read from a real API server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from tests.servers.browser import a_tab, needs_chromium
from tests.servers.control_plane import ControlPlane
from tests.servers.helm import Helm, Raw, by_name, objects

pytestmark = pytest.mark.cluster

RBAC = "rbac.authorization.k8s.io/v1"


@contextmanager
def a_server(control_plane: ControlPlane, folder: Path, *options: str) -> Iterator[str]:
    """A server that reads the test's cluster."""
    port = free_port(set())
    program = [sys.executable, "-m", "finetune_operator", "serve-ui", f"--port={port}"]
    command = [*program, f"--kubeconfig={control_plane.kubeconfig}", *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            eventually(lambda: asked(f"http://127.0.0.1:{port}/healthz")[0] == 200, "the server answers", 60)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def address(control_plane: ControlPlane, tmp_path: Path) -> Iterator[str]:
    """A server for the person who starts it."""
    with a_server(control_plane, tmp_path) as there:
        yield there


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


def token_for(control_plane: ControlPlane, namespace: str, name: str, *rules: Raw) -> str:
    """Return a token of a new ServiceAccount with these rights in its namespace."""
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    meta = {"name": name, "namespace": namespace}
    control_plane.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": RBAC, "kind": "Role", "metadata": meta, "rules": list(rules)},
        {"apiVersion": RBAC, "kind": "RoleBinding", "metadata": meta, "roleRef": reference, "subjects": [subject]},
    )  # fmt: skip
    return control_plane.kubectl("create", "token", name, "-n", namespace).stdout.strip()


def test_callers_see_what_their_own_token_may_read(
    api: Client, control_plane: ControlPlane, namespace: str, tmp_path: Path
):
    """As the chart runs it. The kubeconfig is the administrator's, and nobody gets what only the administrator may read."""
    api.create(jobs(namespace), a_job("shown"))
    wanted = ("ClusterRole", "", "finetune-system-finetune-operator-view")
    reader = token_for(control_plane, namespace, "reader", *by_name(objects(Helm().template()))[wanted]["rules"])
    stranger = token_for(control_plane, namespace, "stranger")
    here = f"/api/jobs?namespace={namespace}"
    with a_server(control_plane, tmp_path, "--ask-callers", "--host=0.0.0.0") as address:

        def seen(path: str, token: str) -> tuple[int, Raw]:
            status, text = asked(address + path, **({"Authorization": f"Bearer {token}"} if token else {}))
            return status, json.loads(text) if text.startswith("{") else {"page": text}

        nobody, forged, with_spaces = (seen(here, token) for token in ("", "forged", "two words"))
        mine, all_of_them, report = (seen(path, reader) for path in (here, "/api/jobs", f"/jobs/{namespace}/shown"))
        refused = [seen(path, stranger) for path in (here, f"/jobs/{namespace}/shown")]
        public = seen("/api/plan?model=Qwen/Qwen2.5-7B&gpus=1", "")[0]

    asks = (401, {"error": "sign in with a bearer token of this cluster to see jobs"})
    who = f'User "system:serviceaccount:{namespace}:'
    assert (nobody, with_spaces) == (asks, asks)
    assert forged == (401, {"error": "Unauthorized"})
    assert (mine[0], [job["name"] for job in mine[1]["jobs"]]) == (200, ["shown"])
    assert all_of_them == (403, {
        "error": f'finetunejobs.finetune.dev is forbidden: {who}reader" cannot list resource "finetunejobs" in API group '
        '"finetune.dev" at the cluster scope',
    })  # fmt: skip
    assert (report[0], f"<title>{namespace}/shown: " in report[1]["page"]) == (200, True)
    assert [(status, who + "stranger" in found["error"]) for status, found in refused] == [(403, True)] * 2
    assert public == 200


@pytest.fixture
def a_thousand(api: Client, namespace: str) -> Iterator[int]:
    """1,000 jobs, each third of which is said to have failed."""
    status = {
        "phase": "Failed",
        "observedGeneration": 1,
        "terminalReason": "OutOfMemory",
        "message": "out of memory",
        "attempts": [],
    }

    def made(number: int) -> None:
        api.create(jobs(namespace), a_job(f"job-{number:04}"))
        if number % 3 == 0:
            api.patch(f"{jobs(namespace)}/job-{number:04}/status", {"status": status})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(made, range(1000)))
    yield 1000
    api.delete(jobs(namespace))


@needs_chromium
async def test_a_thousand_jobs_in_a_browser(a_thousand: int, namespace: str, address: str, tmp_path: Path):
    """Page by page with the keyboard, with names for a screen reader, and the focus stays where it is when the list is read again."""
    async with a_tab(tmp_path) as tab:
        await tab.open(f"{address}/#jobs")
        await tab.until(f"document.getElementById('count').textContent.startsWith('{a_thousand} jobs')")
        first = await tab.value(ROWS)
        regions, tables, buttons = await tab.names("region"), await tab.names("table"), await tab.names("button")
        columns = (await tab.names("columnheader"))[:10]
        await tab.picture(tmp_path / "first.png")

        await tab.value("document.querySelector('#jobs-table tbody tr:last-child a').focus()")
        await tab.press("Tab")
        await tab.press("Tab")  # the first button is `Newer jobs`
        focused = await tab.value("document.activeElement.textContent")
        await tab.press("Enter")
        second, count = await tab.value(ROWS), await tab.value("document.getElementById('count').textContent")
        await tab.press("Enter")
        kept = await tab.value("document.activeElement.textContent")

        await tab.value("document.getElementById('filter').focus()")
        await tab.types("failed job-09")
        found = await tab.value("document.getElementById('count').textContent")
        await tab.value("document.querySelector('#jobs-table a').focus()")
        name = await tab.value("document.activeElement.textContent")
        await tab.value("keepLooking()")
        await tab.until("document.activeElement.tagName === 'A'")
        still = await tab.value("document.activeElement.textContent")
        await tab.press("Enter")
        await tab.until(f"document.title.startsWith('{namespace}/')")

    assert (len(first), len(second), set(first) & set(second)) == (50, 50, set())
    assert ("Jobs" in regions, "Jobs" in tables, {"Newer jobs", "Older jobs"} <= set(buttons)) == (True, True, True)
    assert columns == ["namespace", "name", "phase", "reason", "model", "plan", "progress", "loss", "cost", "age"]
    assert (focused, kept, count) == ("Older jobs", "Older jobs", "1000 jobs, newest first: 51 to 100")
    assert found == "34 of 1000 jobs"
    assert name == still


ROWS = "[...document.querySelectorAll('#jobs-table a')].map((link) => link.textContent)"


@needs_chromium
async def test_signing_in(api: Client, control_plane: ControlPlane, namespace: str, tmp_path: Path):
    """The page asks for a token, keeps it in its tab, asks for a namespace where the token may not read all, and opens a report with it."""
    api.create(jobs(namespace), a_job("shown"))
    wanted = ("ClusterRole", "", "finetune-system-finetune-operator-view")
    reader = token_for(control_plane, namespace, "reader", *by_name(objects(Helm().template()))[wanted]["rules"])
    words = "document.getElementById('cluster').textContent"
    with a_server(control_plane, tmp_path, "--ask-callers") as address:
        async with a_tab(tmp_path) as tab:
            await tab.open(f"{address}/#jobs")
            await tab.until(f"{words} === 'sign in with a bearer token of this cluster to see jobs'")
            fields = await tab.names("textbox")
            await tab.value("document.querySelector('#sign-in input').focus()")
            await tab.types(reader)
            await tab.press("Enter")
            await tab.until(f"{words}.includes('enter its name below')")
            await tab.value("document.getElementById('namespace').focus()")
            await tab.types(namespace)
            await tab.press("Enter")
            await tab.until("document.querySelector('#jobs-table a')?.textContent === 'shown'")
            await tab.picture(tmp_path / "signed-in.png")
            await tab.value("document.querySelector('#jobs-table a').focus()")
            await tab.press("Enter")
            await tab.until(f"document.title.startsWith('{namespace}/shown')")

    assert "Bearer token of this cluster" in fields


def test_what_is_not_there_is_said(namespace: str, address: str):
    """And a page of another host, which a browser was led here by, gets nothing."""
    status, text = asked(f"{address}/jobs/{namespace}/nobody")

    assert (status, json.loads(text)) == (404, {"error": f"FineTuneJob nobody not found in namespace {namespace}"})
    assert asked(f"{address}/api/jobs", Host="evil.example") == (400, "Invalid host header")


def test_a_job_that_this_version_cannot_read_is_named(
    api: Client, control_plane: ControlPlane, namespace: str, address: str
):
    """An older page beside a newer operator, whose definitions are stood for by a field that is let through; the others are shown."""
    api.create(jobs(namespace), a_job("known"))
    schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-preserve-unknown-fields"
    patch = ("patch", "crd", "finetunejobs.finetune.dev", "--type=json", "-p")
    control_plane.kubectl(*patch, json.dumps([{"op": "add", "path": schema, "value": True}]))
    try:
        newer = a_job("newer")
        newer["spec"]["trainOnTheMoon"] = True

        def stored() -> bool:
            control_plane.kubectl("delete", "ftj", "newer", "-n", namespace, "--ignore-not-found")
            return "trainOnTheMoon" in api.create(jobs(namespace), newer)["spec"]

        eventually(stored, "the API server keeps the field", 30)
        _, text = asked(f"{address}/api/jobs?namespace={namespace}")
    finally:
        control_plane.kubectl(*patch, json.dumps([{"op": "remove", "path": schema}]))
    found = json.loads(text)

    assert [job["name"] for job in found["jobs"]] == ["known"]
    assert found["leftOut"] == [
        f"FineTuneJob {namespace}/newer cannot be read by this version of finetune: spec.trainOnTheMoon: extra inputs are not permitted. "
        "Install the version that the operator has; `finetune get NAME -o yaml` prints the job as it is"
    ]
