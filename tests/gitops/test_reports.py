"""What users of custom resources have reported to Argo CD and Flux, tried with FineTuneJobs. The numbers are those of their trackers."""

from typing import Any

import pytest

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import Play, preflight_fails
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, pods, reaches
from tests.cluster.test_created_by import ANNOTATION, stamped
from tests.gitops.argocd import Argo, State
from tests.gitops.flux import Flux
from tests.gitops.git import Repository
from tests.gitops.stage import Stage, bot
from tests.gitops.test_argocd import Theatre as ArgoTheatre
from tests.gitops.test_argocd import plays
from tests.gitops.test_flux import END, READY
from tests.gitops.test_flux import Theatre as FluxTheatre

__all__ = ["stamped"]
pytestmark = pytest.mark.gitops

Raw = dict[str, Any]
HOLD = {"train": Play(hold=True)}
AFTER = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "after", "annotations": {"argocd.argoproj.io/sync-wave": "1"}},
}


@pytest.fixture
def on_argo(api: Client, standin: StandIn, argo: Argo, repo: Repository, namespace: str) -> Any:
    opened = ArgoTheatre(argo, Stage(api, repo, namespace))
    yield opened
    argo.remove(opened.app)


@pytest.fixture
def on_flux(api: Client, standin: StandIn, fluxcd: Flux, repo: Repository, namespace: str) -> Any:
    opened = FluxTheatre(fluxcd, Stage(api, repo, namespace))
    yield opened
    fluxcd.remove(opened.path)


def annotated(job: Raw, **annotations: str) -> Raw:
    """Return a job with Argo CD's annotations."""
    notes = {f"argocd.argoproj.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return job | {"metadata": {**job["metadata"], "annotations": notes}}


def after(on_argo: ArgoTheatre) -> Raw | None:
    return on_argo.stage.api.find(f"/api/v1/namespaces/{on_argo.stage.namespace}/configmaps/after")


def test_a_wave_waits_for_the_end_of_the_job(on_argo: ArgoTheatre, start_operator: StartOperator, standin: StandIn):
    """argo-cd 4577, 14442: the next wave comes when the job has published, and not while it trains."""
    plays(standin, **HOLD)
    on_argo.stage.repo.write("jobs/after.yaml", AFTER)
    start_operator().start()
    on_argo.sync(bot())
    on_argo.stage.reaches("Training")
    eventually(lambda: on_argo.state().health == "Progressing", "Argo CD has seen it", 60)
    early = after(on_argo)
    on_argo.stage.api.patch(f"{jobs(on_argo.stage.namespace)}/bot", {"spec": {"suspend": True}})
    on_argo.stage.reaches("Suspended")
    plays(standin)
    on_argo.stage.api.patch(f"{jobs(on_argo.stage.namespace)}/bot", {"spec": {"suspend": False}})
    on_argo.stage.reaches("Succeeded")
    eventually(lambda: after(on_argo), "the next wave is applied", 90)

    assert early is None


def test_a_wave_does_not_follow_a_failed_job(on_argo: ArgoTheatre, start_operator: StartOperator, standin: StandIn):
    """The same: the sync fails, and nothing behind it is applied."""
    plays(standin, preflight=preflight_fails("DatasetInvalid", "row 7 has no text"))
    on_argo.stage.repo.write("jobs/after.yaml", AFTER)
    start_operator().start()
    on_argo.sync(bot())
    on_argo.becomes("OutOfSync", "Degraded")

    assert after(on_argo) is None


def test_a_job_as_a_hook_runs_before_the_rest(on_argo: ArgoTheatre, start_operator: StartOperator, standin: StandIn):
    """argo-cd 13851: PreSync with BeforeHookCreation; each sync runs it, and the rest waits for its end."""
    plays(standin)
    on_argo.stage.repo.write("jobs/after.yaml", AFTER)
    start_operator().start()
    hook = annotated(bot(), hook="PreSync", hook_delete_policy="BeforeHookCreation")
    on_argo.sync(hook)
    eventually(lambda: after(on_argo), "the rest is applied", 90)
    job = on_argo.stage.job()
    on_argo.becomes("Synced", "Healthy")

    assert job is not None
    assert job["status"]["phase"] == "Succeeded"


def test_a_generated_name_as_a_hook(on_argo: ArgoTheatre, start_operator: StartOperator, standin: StandIn):
    """argo-cd 1639: with generateName each sync makes a job of its own; the Application stays Synced."""
    start_operator().start()
    hook = annotated(bot(), hook="PostSync")
    hook["metadata"] = {"generateName": "nightly-", "annotations": hook["metadata"]["annotations"]}
    on_argo.sync(hook)
    made = eventually(lambda: on_argo.stage.api.items(jobs(on_argo.stage.namespace)), "a job is made", 60)
    reaches(on_argo.stage.api, on_argo.stage.namespace, made[0]["metadata"]["name"], "Succeeded")
    on_argo.becomes("Synced", "Healthy")

    assert made[0]["metadata"]["name"].startswith("nightly-")


def test_marks_of_the_tool_stay_on_the_job(on_argo: ArgoTheatre, start_operator: StartOperator, standin: StandIn):
    """argo-cd 8683, clickhouse-operator 487: Pods do not inherit what Argo CD tracks by, so it never prunes them."""
    plays(standin, **HOLD)
    start_operator().start()
    job = bot()
    job["metadata"]["labels"] = {"app.kubernetes.io/instance": on_argo.app, "argocd.argoproj.io/instance": on_argo.app}
    on_argo.sync(job)
    on_argo.stage.reaches("Training")
    on_argo.becomes("Synced", "Progressing")
    made = on_argo.stage.api.items(pods(on_argo.stage.namespace))
    tracked = {
        key: value for key, value in on_argo.stage.job()["metadata"]["annotations"].items() if "tracking-id" in key
    }

    assert tracked
    for pod in made:
        assert not [key for key in pod["metadata"].get("annotations", {}) if "argocd" in key]
        assert on_argo.app not in pod["metadata"]["labels"].values()


def test_defaults_that_are_written_out_are_no_drift(
    on_argo: ArgoTheatre, start_operator: StartOperator, standin: StandIn
):
    """argo-cd 6063, 15898, 28724: what git says redundantly, and what the API server fills in, differ nowhere."""
    plays(standin)
    start_operator().start()
    data = [
        {"source": "s3://bucket/train.jsonl", "split": "train", "format": "auto", "invalidRows": {"action": "error"}}
    ]
    redundant = {
        "suspend": False,
        "planOnly": False,
        "trackers": [],
        "runPolicy": {"maxRetries": 3},
        "podMetadata": {"labels": []},
    }
    on_argo.sync(bot(datasets=data, **redundant))
    on_argo.stage.reaches("Succeeded")
    on_argo.becomes("Synced", "Healthy")
    on_argo.argo.refresh(on_argo.app, "hard")

    assert on_argo.state() == State("Synced", "Healthy")


def test_a_status_in_git_changes_nothing(on_flux: FluxTheatre, start_operator: StartOperator, standin: StandIn):
    """flux2 5855 and others: somebody commits the output of `kubectl get -o yaml`; the operator's status stays."""
    plays(standin)
    start_operator().start()
    on_flux.sync(bot() | {"status": {"observedGeneration": 7, "phase": "Failed"}})
    on_flux.stage.reaches("Succeeded")
    on_flux.becomes(READY)
    on_flux.again()

    assert on_flux.stage.job()["status"]["phase"] == "Succeeded"


def test_expressions_see_a_failed_job(on_flux: FluxTheatre, start_operator: StartOperator, standin: StandIn):
    """kustomize-controller 1737: healthCheckExprs are not asked while observedGeneration is old; ours is not, also of a failed job."""
    plays(standin, preflight=preflight_fails("DatasetInvalid", "row 7 has no text"))
    start_operator().start()
    on_flux.sync(bot(), healthCheckExprs=END, timeout="10m")
    said = on_flux.becomes(("False", "HealthCheckFailed"))

    assert f"failed early due to stalled resources: [FineTuneJob/{on_flux.name}/bot status: 'Failed']" in said


def test_a_stamp_of_the_api_server_is_no_drift(
    on_argo: ArgoTheatre, start_operator: StartOperator, standin: StandIn, stamped: str
):
    """argo-cd 23752: admission policies run in dry runs, too. The stamp of createdBy stays, and nobody fights over it."""
    plays(standin)
    start_operator().start()
    on_argo.sync(
        bot(), "ServerSideApply=true", annotations={"argocd.argoproj.io/compare-options": "ServerSideDiff=true"}
    )
    on_argo.stage.reaches("Succeeded")
    on_argo.becomes("Synced", "Healthy")
    on_argo.argo.refresh(on_argo.app, "hard")
    synced, job = on_argo.state(), on_argo.stage.job()

    assert synced == State("Synced", "Healthy")
    assert job is not None
    assert job["metadata"]["annotations"][ANNOTATION] == stamped
