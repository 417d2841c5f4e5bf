"""The chart and the kustomize base, installed by the real Argo CD and Flux on a cluster that has none of it, and uninstalled.

The jobs stay whatever goes; so do the definitions, and the namespace in which jobs may be.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from finetune_operator.local.components import Options
from finetune_operator.local.control_plane import down, up
from finetune_operator.local.state import ClusterState

from tests.cluster.client import FINETUNE, ApiError, Client, eventually
from tests.cluster.conftest import serves
from tests.cluster.plays import a_job
from tests.gitops.argocd import APPLICATIONS, Argo, application, argocd, policy
from tests.gitops.conftest import GitHost
from tests.gitops.flux import KUSTOMIZATIONS, RELEASES, Flux, flux, kustomization, source
from tests.gitops.git import Repository
from tests.golden.chart import KUSTOMIZE
from tests.servers.control_plane import ControlPlane
from tests.servers.helm import CHART, RELEASE, SYSTEM

pytestmark = pytest.mark.gitops

Raw = dict[str, Any]
CRDS = ("finetunejobs", "finetuneplans", "finetunepolicies", "gpupools")
JOBS = f"{FINETUNE}/namespaces/{SYSTEM}/finetunejobs"
OPERATOR = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/{RELEASE}"
POOL = {
    "gpuType": "NVIDIA-L4", "gpusPerNode": 1, "maxNodes": 1, "node": {"cpus": 8, "memoryGiB": 30, "ephemeralGiB": 100},
    "pricePerGPUHourUSD": "0.70",
}  # fmt: skip
VALUES = {"replicas": 0, "gpuPools": {"small": POOL}}
"""Nothing here runs the operator's Pod."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster of this module's own, without our definitions."""
    state = ClusterState(tmp_path_factory.mktemp("clusters") / "bare")
    up(state, Options(node=False), say=print)
    try:
        yield ControlPlane(state)
    finally:
        down(state, say=print)


@pytest.fixture(scope="module")
def client(bare: ControlPlane) -> Client:
    return Client(bare.kubeconfig)


@pytest.fixture(scope="module")
def its_argo(bare: ControlPlane, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Argo]:
    with argocd(client, bare, tmp_path_factory.mktemp("argocd")) as running:
        yield running


@pytest.fixture(scope="module")
def its_flux(bare: ControlPlane, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flux]:
    with flux(client, bare, tmp_path_factory.mktemp("flux")) as running:
        yield running


@pytest.fixture
def repo(git_host: GitHost, tmp_path: Path) -> Repository:
    """A repository with the chart and the kustomize base as they are; the base without the operator's Pod."""
    made = git_host.make(f"install-{tmp_path.name}")
    made.copy(CHART, "chart")
    made.copy(KUSTOMIZE, "base")
    made.replace("base/operator.yaml", "replicas: 1\n", "replicas: 0\n")
    made.commit()
    return made


@pytest.fixture
def clean(bare: ControlPlane, client: Client) -> Iterator[None]:
    """The cluster is without us again afterwards, also where the test has failed."""
    yield
    for path in (f"{APPLICATIONS}/chart", f"{APPLICATIONS}/base", f"{RELEASES}/{RELEASE}", f"{KUSTOMIZATIONS}/base"):
        try:
            client.patch(path, {"metadata": {"finalizers": None}})
            client.delete(path)
        except ApiError:  # it is gone, or its kind was never there
            continue
    for name in CRDS:
        bare.kubectl("delete", "crd", f"{name}.finetune.dev", "--ignore-not-found")
    bare.kubectl("delete", "deployment", RELEASE, "-n", SYSTEM, "--ignore-not-found")
    bare.kubectl("delete", "namespace", SYSTEM, "--ignore-not-found", "--timeout=50s")


def installed(client: Client) -> None:
    """Wait until the operator and the definitions are there, and apply a job into the operator's own namespace."""
    eventually(lambda: client.find(OPERATOR), "the operator is installed", 90)
    eventually(lambda: serves(client, "finetunejobs"), "jobs are served", 60)
    client.create(JOBS, a_job("kept"))


def left(client: Client) -> tuple[list[str], bool]:
    """Return the jobs that are left once the operator is gone, and whether any of them or their namespace is being deleted."""
    eventually(lambda: client.find(OPERATOR) is None, "the operator is gone", 90)
    namespace = client.get(f"/api/v1/namespaces/{SYSTEM}")
    jobs = client.items(JOBS)
    crds = [client.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}.finetune.dev") for name in CRDS]
    leaving = any("deletionTimestamp" in each["metadata"] for each in (namespace, *jobs, *crds))
    return [each["metadata"]["name"] for each in jobs], leaving


@pytest.mark.parametrize("options", [(), ("ServerSideApply=true",)], ids=["client", "server"])
def test_the_chart_by_argocd(client: Client, its_argo: Argo, repo: Repository, clean: None, options: tuple[str, ...]):
    """Synced and Healthy on the first sync, with its pool; deleting the Application leaves the jobs."""
    made = application("chart", repo.url, "chart", SYSTEM, syncPolicy=policy("CreateNamespace=true", *options))
    made["spec"]["source"]["helm"] = {"releaseName": RELEASE, "valuesObject": VALUES}
    its_argo.apply(made)
    installed(client)
    its_argo.reaches("chart", "Synced", "Healthy")
    eventually(lambda: client.find(f"{FINETUNE}/gpupools/small"), "the pool is there", 60)
    its_argo.refresh("chart", "hard")
    state = its_argo.state("chart")
    its_argo.remove("chart")

    assert (state.sync, state.health) == ("Synced", "Healthy")
    assert left(client) == (["kept"], False)


@pytest.mark.parametrize("options", [(), ("ServerSideApply=true",)], ids=["client", "server"])
def test_the_base_by_argocd(client: Client, its_argo: Argo, repo: Repository, clean: None, options: tuple[str, ...]):
    """The same for the kustomize base, whose namespace is in it."""
    its_argo.apply(application("base", repo.url, "base", SYSTEM, syncPolicy=policy(*options)))
    installed(client)
    its_argo.reaches("base", "Synced", "Healthy")
    its_argo.refresh("base", "hard")
    state = its_argo.state("base")
    its_argo.remove("base")

    assert (state.sync, state.health) == ("Synced", "Healthy")
    assert left(client) == (["kept"], False)


def test_the_chart_by_flux(client: Client, its_flux: Flux, repo: Repository, clean: None):
    """A HelmRelease without pools, which are a Kustomization's; deleting it leaves the jobs."""
    its_flux.apply(source("repo", repo.url), release(repo))
    installed(client)
    its_flux.reaches(f"{RELEASES}/{RELEASE}", "True", "InstallSucceeded")
    its_flux.remove(f"{RELEASES}/{RELEASE}")

    assert left(client) == (["kept"], False)


def release(repo: Repository) -> Raw:
    """Return a HelmRelease of the chart."""
    return {
        "apiVersion": "helm.toolkit.fluxcd.io/v2",
        "kind": "HelmRelease",
        "metadata": {"name": RELEASE, "namespace": "flux-system"},
        "spec": {
            "interval": "1h", "releaseName": RELEASE, "targetNamespace": SYSTEM,
            "install": {"createNamespace": True},
            "chart": {"spec": {"chart": "./chart", "sourceRef": {"kind": "GitRepository", "name": "repo"}}},
            "values": {"replicas": 0},
        },
    }  # fmt: skip


def test_the_base_by_flux(client: Client, its_flux: Flux, repo: Repository, clean: None):
    """A Kustomization with `prune: true`; deleting it leaves the jobs."""
    base = kustomization("base", "repo", "base", SYSTEM)
    del base["spec"]["targetNamespace"]
    its_flux.apply(source("repo", repo.url), base)
    its_flux.ask("/apis/source.toolkit.fluxcd.io/v1/namespaces/flux-system/gitrepositories/repo")
    installed(client)
    its_flux.reaches(f"{KUSTOMIZATIONS}/base", "True", "ReconciliationSucceeded")
    its_flux.remove(f"{KUSTOMIZATIONS}/base")

    assert left(client) == (["kept"], False)
