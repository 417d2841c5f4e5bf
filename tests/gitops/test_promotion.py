"""From a finished job to serving by a commit: the commands of docs/guides/gitops.md, run as they stand there, and Argo CD."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_operator.local.binaries import KUBECTL
from finetune_operator.local.provide import provide

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import Play, a_job, training_succeeds
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, reaches
from tests.gitops.argocd import Argo, application
from tests.gitops.git import IDENTITY, PLAIN, Repository
from tests.gitops.stage import reap
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.gitops

Raw = dict[str, Any]
PAGE = Path(__file__).parents[2] / "docs/guides/gitops.md"


def documented() -> str:
    """Return the commands of the section about promotion."""
    section = PAGE.read_text().partition("## Promotion")[2]
    found = re.search(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


class Pipeline:
    """A clone of the repository in which somebody types the commands."""

    def __init__(self, folder: Path, repo: Repository, namespace: str, kubeconfig: Path) -> None:
        self.folder, self.namespace = folder / "clone", namespace
        kubectl = provide([KUBECTL], say=print)["kubectl"]
        path = f"{Path(sys.executable).parent}:{kubectl.parent}:{os.environ['PATH']}"
        self.env = os.environ | IDENTITY | PLAIN | {"KUBECONFIG": str(kubeconfig), "PATH": path, "HOME": str(folder)}
        repo.git("config", "receive.denyCurrentBranch", "updateInstead")
        self.run(f"git clone --quiet {repo.folder} {self.folder}; mkdir -p {self.folder}/serving", folder)

    def run(self, script: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a script that stops at the first error, whatever it answers."""
        command = ["bash", "-euo", "pipefail", "-c", script]
        where = folder or self.folder
        return subprocess.run(
            command, cwd=where, env=self.env, capture_output=True, text=True, check=False, timeout=120
        )

    def promote(self, job: str, *, wait: str = "24h") -> subprocess.CompletedProcess[str]:
        """Type what the page says, for another job and namespace."""
        script = documented().replace("team-a", self.namespace).replace("support-bot-v2", job).replace("24h", wait)
        return self.run(script)


@pytest.fixture
def pipeline(tmp_path: Path, repo: Repository, namespace: str, control_plane: ControlPlane) -> Pipeline:
    repo.write("serving/kept.yaml", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}})
    repo.commit()
    return Pipeline(tmp_path, repo, namespace, control_plane.kubeconfig)


@pytest.fixture
def serving(api: Client, argo: Argo, repo: Repository, pipeline: Pipeline, namespace: str) -> Iterator[str]:
    """The Application that applies the folder `serving`."""
    name = f"serving-{namespace}"
    argo.apply(application(name, repo.url, "serving", namespace))
    yield name
    argo.remove(name, lambda: reap(api, namespace))


def gated(name: str, least: str) -> Raw:
    """Return a job with a gate; the stand-in's model is 25 % better."""
    gate = {"minRelativeLossImprovement": least}
    return a_job(name, output={"destination": f"s3://bucket/{name}"}, evaluation={"gate": gate})


def fetched(api: Client, namespace: str) -> list[str]:
    """Return what the server fetches: the URI, the place, the digest."""
    found = api.find(f"/apis/apps/v1/namespaces/{namespace}/deployments/support-bot")
    return found["spec"]["template"]["spec"]["initContainers"][0]["args"][3:6] if found else []


def adapter(name: str, digit: str) -> Play:
    """Return the play of a trainer whose adapter has a place and a digest of its own."""
    play = training_succeeds()
    assert play.outcome is not None
    mine = replace(play.outcome.artifacts[0], uri=f"s3://bucket/{name}/adapter", digest="sha256:" + digit * 64)
    return replace(play, outcome=replace(play.outcome, artifacts=(mine,)))


def test_a_promoted_adapter_is_served_by_a_commit(
    api: Client,
    standin: StandIn,
    argo: Argo,
    serving: str,
    pipeline: Pipeline,
    namespace: str,
    start_operator: StartOperator,
):
    """Version 1, then version 2 in its place, then back by a revert; a version that fails its gate never gets into git."""
    for number, name in enumerate(("bot-v1", "bot-v2", "bot-v3"), start=1):
        standin.scripts[name] = {"train": adapter(name, str(number))}
    start_operator().start()
    for name, least in (("bot-v1", "0.05"), ("bot-v2", "0.05"), ("bot-v3", "0.5")):
        api.create(jobs(namespace), gated(name, least))
    first = pipeline.promote("bot-v1")
    argo.refresh(serving)
    eventually(lambda: fetched(api, namespace), "the server is applied", 60)
    one = fetched(api, namespace)
    before = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/support-bot")["metadata"]["uid"]
    second = pipeline.promote("bot-v2")
    argo.refresh(serving)
    eventually(lambda: fetched(api, namespace) != one, "the next version is applied", 60)
    two = fetched(api, namespace)
    after = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/support-bot")
    reaches(api, namespace, "bot-v3", "Succeeded")
    third = pipeline.promote("bot-v3", wait="1s")
    refused = pipeline.run(f"finetune manifests bot-v3 -n {namespace} --name support-bot")
    pipeline.run("git checkout --quiet . && git revert --no-edit HEAD && git push --quiet")
    argo.refresh(serving)
    eventually(lambda: fetched(api, namespace) == one, "version 1 is back", 60)

    assert (first.returncode, second.returncode, third.returncode) == (0, 0, 1), (first.stderr, second.stderr)
    assert one == ["s3://bucket/bot-v1/adapter", "/models/support-bot", "sha256:" + "1" * 64]
    assert two == ["s3://bucket/bot-v2/adapter", "/models/support-bot", "sha256:" + "2" * 64]
    assert after["metadata"]["uid"] == before
    assert "timed out waiting for the condition" in third.stderr
    assert refused.returncode == 1
    assert refused.stderr.startswith("finetune: bot-v3 did not pass its gate (")
