"""The examples in gitops/, applied by the real Argo CD and Flux as they are in the repository, but for the address of git."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.client import FINETUNE, STRATEGIC, Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import GPU_NODE, Play, training_succeeds
from tests.cluster.standin import StandIn, now_text
from tests.cluster.test_controller_runs import jobs, reaches
from tests.gitops.argocd import APPLICATIONS, Argo
from tests.gitops.conftest import GitHost
from tests.gitops.flux import KUSTOMIZATIONS, RELEASES, SOURCES, Flux
from tests.gitops.git import Repository
from tests.gitops.stage import reap
from tests.servers.control_plane import ControlPlane
from tests.servers.helm import CHART, RELEASE, SYSTEM

pytestmark = pytest.mark.gitops

Raw = dict[str, Any]
GITOPS = Path(__file__).parents[2] / "gitops"
ADDRESS = "https://git.example.com/ml/fleet.git"
TEAM, JOB = "team-a", "support-bot-v1"
OPERATOR_PODS = f"/api/v1/namespaces/{SYSTEM}/pods"


@pytest.fixture
def fleet(git_host: GitHost, tmp_path: Path) -> Repository:
    """The repository of the examples, with the chart beside them."""
    made = git_host.make(f"fleet-{tmp_path.name}")
    for source, path in (
        (GITOPS / "fleet", "."),
        (GITOPS / "argocd/applications", "argocd/applications"),
        (CHART, "charts/finetune-operator"),
    ):
        made.copy(source, path)
    for file in made.folder.rglob("*.yaml"):
        if ADDRESS in (text := file.read_text()):
            file.write_text(text.replace(ADDRESS, made.url))
    made.commit()
    return made


@pytest.fixture
def operator_runs(
    api: Client, control_plane: ControlPlane, standin: StandIn, start_operator: StartOperator
) -> Iterator[None]:
    """An operator for all namespaces, and GPUs of the example's pool on the stand-in's node. Afterwards the team is gone."""
    standin.scripts[JOB] = {"train": training_succeeds()}
    node = f"/api/v1/nodes/{GPU_NODE}"
    labels = api.get(node)["metadata"]["labels"]
    api.patch(node, {"metadata": {"labels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}}})
    start_operator(everywhere=True).start()
    yield
    api.patch(node, {"metadata": {"labels": {"nvidia.com/gpu.product": labels["nvidia.com/gpu.product"]}}})
    for kind, name in (("namespace", TEAM), ("gpupool", "h100"), ("namespace", SYSTEM)):
        control_plane.kubectl("delete", kind, name, "--ignore-not-found", "--wait=false")
    eventually(lambda: gone(api), "the namespaces are gone", 90)


def gone(api: Client) -> bool:
    """Let the Pods of namespaces that are being deleted go; tell whether the namespaces are."""
    for namespace in (TEAM, SYSTEM):
        reap(api, namespace)
    return all(api.find(f"/api/v1/namespaces/{namespace}") is None for namespace in (TEAM, SYSTEM))


def documents(path: Path, repo: Repository) -> list[Raw]:
    """Return the objects that a user applies by hand."""
    return list(yaml.safe_load_all(path.read_text().replace(ADDRESS, repo.url)))


def play_kubelet(api: Client) -> bool:
    """Let the Pods of the operator's Deployment be ready, as a kubelet would; tell whether there is one."""
    found = api.items(OPERATOR_PODS) if api.find(f"/api/v1/namespaces/{SYSTEM}") else []
    for pod in found:
        ready = {"status": "True", "lastTransitionTime": now_text()}
        status = {"phase": "Running", "conditions": [{"type": kind, **ready} for kind in ("Ready", "ContainersReady")]}
        api.patch(f"{OPERATOR_PODS}/{pod['metadata']['name']}/status", {"status": status}, STRATEGIC)
    return bool(found)


def created(found: Raw | None) -> str:
    assert found is not None
    return str(found["metadata"]["creationTimestamp"])


def test_argocd_applies_the_fleet_in_waves(api: Client, argo: Argo, fleet: Repository, operator_runs: None):
    """The operator, then the pools, then each team: its namespace, its policy, its jobs. All is Healthy in the end."""
    (root,) = documents(GITOPS / "argocd/root.yaml", fleet)
    argo.apply(root)
    eventually(lambda: api.find(f"{APPLICATIONS}/{RELEASE}"), "the first wave is applied", 60)
    eventually(
        lambda: api.find(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/{RELEASE}"), "the operator is applied", 90
    )
    eventually(lambda: play_kubelet(api), "the operator has a Pod", 60)
    argo.reaches(RELEASE, "Synced", "Healthy")
    eventually(lambda: api.find(f"{jobs(TEAM)}/{JOB}"), "the job is applied", 120)
    reaches(api, TEAM, JOB, "Succeeded")
    argo.reaches(f"finetune-{TEAM}", "Synced", "Healthy")
    argo.reaches("finetune", "Synced", "Healthy")
    pool, policy = (
        api.get(f"{FINETUNE}/gpupools/h100"),
        api.get(f"{FINETUNE}/namespaces/{TEAM}/finetunepolicies/default"),
    )
    job, operator = api.get(f"{jobs(TEAM)}/{JOB}"), api.get(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/{RELEASE}")
    platform = api.get(f"{APPLICATIONS}/finetune-platform")
    api.delete("/apis/argoproj.io/v1alpha1/namespaces/argocd/applicationsets/finetune-teams")
    argo.remove("finetune")
    for name in ("finetune-platform", f"finetune-{TEAM}", RELEASE):
        argo.remove(name, lambda: reap(api, SYSTEM))

    waves = [created(each) for each in (operator, platform, pool, policy, job)]
    assert waves == sorted(waves)
    assert api.find(f"{jobs(TEAM)}/{JOB}") is not None


def test_flux_applies_the_fleet_in_order(api: Client, fluxcd: Flux, fleet: Repository, operator_runs: None):
    """The same by Flux."""
    objects = documents(GITOPS / "flux/fleet.yaml", fleet)
    fluxcd.apply(*objects)
    eventually(lambda: play_kubelet(api), "the operator has a Pod", 120)
    fluxcd.reaches(f"{KUSTOMIZATIONS}/finetune-operator", "True", "ReconciliationSucceeded", 120)
    eventually(lambda: api.find(f"{jobs(TEAM)}/{JOB}"), "the job is applied", 120)
    reaches(api, TEAM, JOB, "Succeeded")
    fluxcd.reaches(f"{KUSTOMIZATIONS}/finetune-teams", "True", "ReconciliationSucceeded")
    for each in reversed(objects[1:]):
        fluxcd.remove(f"{KUSTOMIZATIONS}/{each['metadata']['name']}")
    eventually(lambda: uninstalled(api), "the release is gone", 90)
    fluxcd.remove(f"{SOURCES}/fleet")

    assert api.find(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/{RELEASE}") is None
    assert api.find("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/finetunejobs.finetune.dev") is not None


def uninstalled(api: Client) -> bool:
    """Let the operator's Pods go; tell whether helm has uninstalled the rest."""
    reap(api, SYSTEM)
    return api.find(f"{RELEASES}/{RELEASE}") is None


def test_a_commit_is_applied_while_a_job_trains(
    api: Client, fluxcd: Flux, fleet: Repository, operator_runs: None, standin: StandIn
):
    """A job of a team trains for hours; the next commit does not wait for it."""
    standin.scripts[JOB] = {"train": Play(hold=True)}
    objects = documents(GITOPS / "flux/fleet.yaml", fleet)
    for each in objects[1:]:
        each["spec"].pop("dependsOn", None)
    fluxcd.apply(*objects[:1], *objects[2:])
    eventually(lambda: api.find(f"{jobs(TEAM)}/{JOB}"), "the job is applied", 120)
    reaches(api, TEAM, JOB, "Training")
    fleet.replace(f"teams/{TEAM}/policy.yaml", "gpus: 8", "gpus: 9")
    fluxcd.fetch("fleet", fleet.commit())
    policy = f"{FINETUNE}/namespaces/{TEAM}/finetunepolicies/default"
    eventually(lambda: api.get(policy)["spec"]["limits"]["gpus"] == 9, "the commit is applied", 60)
    still = api.get(f"{jobs(TEAM)}/{JOB}")["status"]["phase"]
    for each in reversed(objects[2:]):
        fluxcd.remove(f"{KUSTOMIZATIONS}/{each['metadata']['name']}")
    fluxcd.remove(f"{SOURCES}/fleet")

    assert still == "Training"
