"""Jobs that the real Flux applies: never ready before the operator has looked, and each cell of the table in docs/guides/gitops.md."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from finetune_contract import Outcome

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import Play, preflight_fails, training_succeeds
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs
from tests.gitops.flux import KUSTOMIZATIONS, SOURCES, Flux, kustomization, source
from tests.gitops.git import Repository
from tests.gitops.stage import Stage, bot, steps
from tests.gitops.table import Seen, expected
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.gitops

Raw = dict[str, Any]
HOLD = {"train": Play(hold=True)}
FORCED = {"kustomize.toolkit.fluxcd.io/force": "enabled"}
READY, FAILED = ("True", "ReconciliationSucceeded"), ("False", "ReconciliationFailed")


class Theatre:
    """A Kustomization over a stage."""

    def __init__(self, flux: Flux, stage: Stage) -> None:
        self.flux, self.stage, self.name = flux, stage, stage.namespace
        self.path = f"{KUSTOMIZATIONS}/{self.name}"

    def sync(self, job: Raw, **spec: Any) -> None:
        """Put a job into git and let Flux apply it."""
        self.stage.put(job)
        self.flux.apply(
            source(self.name, self.stage.repo.url),
            kustomization(self.name, self.name, "jobs", self.stage.namespace, **spec),
        )

    def change(self, job: Raw | None) -> str:
        """Commit another job, or none, and let Flux look."""
        if job is None:
            self.stage.repo.remove("jobs/job.yaml")
            commit = self.stage.repo.commit()
        else:
            commit = self.stage.put(job)
        self.flux.fetch(self.name, commit)
        return commit

    def again(self) -> None:
        """Let it reconcile once more, and wait until it has."""
        self.flux.ask(self.path)
        wanted = self.stage.api.get(self.path)["metadata"]["annotations"]["reconcile.fluxcd.io/requestedAt"]
        done = lambda: self.stage.api.get(self.path)["status"].get("lastHandledReconcileAt") == wanted  # noqa: E731
        eventually(done, "Flux has reconciled again", 90)

    def becomes(self, ready: tuple[str, str]) -> str:
        return self.flux.reaches(self.path, *ready)

    def seen(self, before: str, name: str = "bot") -> Seen:
        """Return what is left in the end."""
        return Seen(self.stage.fate(before, name), " ".join(self.flux.ready(self.path)[:2]))


@pytest.fixture
def stage(api: Client, standin: StandIn, repo: Repository, namespace: str) -> Stage:
    """A namespace with nothing in it, and an empty repository."""
    return Stage(api, repo, namespace)


@pytest.fixture
def theatre(fluxcd: Flux, stage: Stage) -> Iterator[Theatre]:
    """The same with Flux."""
    opened = Theatre(fluxcd, stage)
    yield opened
    fluxcd.remove(opened.path)
    fluxcd.remove(f"{SOURCES}/{opened.name}")


def plays(standin: StandIn, **scripts: Play) -> None:
    standin.scripts["bot"] = scripts


def test_a_job_that_nobody_has_looked_at_is_in_progress(
    theatre: Theatre, start_operator: StartOperator, standin: StandIn
):
    """With the operator stopped: `wait: true` waits, and gives up after its timeout. Then ready, when the job has published."""
    plays(standin)
    theatre.sync(bot(), timeout="30s")
    waiting = theatre.becomes(("False", "HealthCheckFailed"))
    start_operator().start()
    theatre.stage.reaches("Succeeded")
    theatre.becomes(READY)

    assert f"FineTuneJob/{theatre.name}/bot status: 'InProgress'" in waiting


def test_a_failed_job_fails_the_health_check(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """At once, and not after the timeout."""
    plays(standin, preflight=preflight_fails("DatasetInvalid", "row 7 has no text"))
    start_operator().start()
    theatre.sync(bot(), timeout="10m")
    said = theatre.becomes(("False", "HealthCheckFailed"))

    assert f"failed early due to stalled resources: [FineTuneJob/{theatre.name}/bot status: 'Failed']" in said


def test_pruned(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """The file of a running job is removed from git."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot())
    theatre.stage.reaches("Training")
    theatre.becomes(READY)
    theatre.change(None)
    eventually(lambda: theatre.stage.job() is None, "the job is pruned", 60)
    eventually(theatre.stage.no_pods, "its Pods are gone", 90)
    theatre.becomes(READY)

    assert theatre.seen(theatre.stage.uid) == expected("flux", "pruned")


def test_deleted_by_hand(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """Somebody deletes a finished job in the cluster; Flux looks at the next interval."""
    plays(standin)
    start_operator().start()
    theatre.sync(bot())
    theatre.stage.reaches("Succeeded")
    theatre.becomes(READY)
    before = theatre.stage.uid
    theatre.stage.api.delete(f"{jobs(theatre.stage.namespace)}/bot")
    theatre.again()
    theatre.stage.reaches("Succeeded")
    theatre.becomes(READY)

    assert theatre.seen(before) == expected("flux", "deleted by hand")


@pytest.mark.parametrize(
    ("written", "key"), [({}, "suspended by hand"), ({"suspend": False}, "suspended, git says false")]
)
def test_suspended_by_hand(
    theatre: Theatre,
    start_operator: StartOperator,
    standin: StandIn,
    control_plane: ControlPlane,
    written: Raw,
    key: str,
):
    """Flux takes back what kubectl wrote, whether git names the field or not; `finetune suspend` only where git names it."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot(**written))
    theatre.stage.reaches("Training")
    theatre.becomes(READY)
    patch = ("patch", "ftj", "bot", "-n", theatre.stage.namespace, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    control_plane.kubectl(*patch)
    theatre.again()
    by_kubectl = theatre.stage.suspended()
    where = ("--namespace", theatre.stage.namespace, "--kubeconfig", str(control_plane.kubeconfig))
    subprocess.run([sys.executable, "-m", "finetune_operator", "suspend", "bot", *where], check=True, timeout=60)
    theatre.again()
    theatre.becomes(READY)
    by_finetune = theatre.stage.suspended()

    assert (by_kubectl, by_finetune) == (False, not written)
    assert theatre.seen(theatre.stage.uid) == expected("flux", key)


def test_time_to_live(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """ttlSecondsAfterFinished has passed; the operator has said why it keeps the job."""
    plays(standin)
    start_operator().start()
    theatre.sync(bot(runPolicy={"ttlSecondsAfterFinished": 0, "podRetentionSeconds": 0}))
    job = theatre.stage.reaches("Succeeded")
    eventually(theatre.stage.no_pods, "the Pods are gone after their own retention", 60)
    theatre.becomes(READY)
    theatre.again()
    said = next(each["message"] for each in job["status"]["conditions"] if each["type"] == "Succeeded")

    assert said.endswith(
        "ttlSecondsAfterFinished is ignored, because Flux would create the job again: remove it from git instead"
    )
    assert theatre.seen(theatre.stage.uid) == expected("flux", "time to live")


def test_frozen(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """Git changes a field that is frozen with the first attempt: nothing is applied, and the API server's sentence is shown."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot())
    theatre.stage.reaches("Training")
    theatre.becomes(READY)
    theatre.change(bot(**steps(7)))
    said = theatre.becomes(FAILED)

    assert "spec.training cannot be changed once the first attempt has started" in said
    assert theatre.seen(theatre.stage.uid) == expected("flux", "frozen, server-side")


def test_frozen_with_force(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """kustomize.toolkit.fluxcd.io/force on the job: deleted and made again."""
    plays(standin)
    start_operator().start()
    theatre.sync(bot() | {"metadata": {"name": "bot", "annotations": FORCED}})
    theatre.stage.reaches("Succeeded")
    theatre.becomes(READY)
    before = theatre.stage.uid
    theatre.change(bot(**steps(7)) | {"metadata": {"name": "bot", "annotations": FORCED}})
    eventually(lambda: theatre.stage.fate(before) == "runs again", "it is made again", 60)
    theatre.stage.reaches("Succeeded")
    theatre.becomes(READY)

    assert theatre.seen(before) == expected("flux", "frozen, force")


def test_the_budget_is_raised(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """A field that is not frozen."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot(runPolicy={"budget": {"maxCostUSD": "20.00"}}))
    theatre.stage.reaches("Training")
    theatre.becomes(READY)
    theatre.change(bot(runPolicy={"budget": {"maxCostUSD": "30.00"}}))
    eventually(lambda: theatre.stage.job()["spec"]["runPolicy"]["budget"]["maxCostUSD"] == "30.00", "it is raised", 60)
    theatre.becomes(READY)

    assert theatre.seen(theatre.stage.uid) == expected("flux", "budget raised")


def test_renamed(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """The name of a running job is changed in git, and nothing else."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot())
    theatre.stage.reaches("Training")
    theatre.becomes(READY)
    before = theatre.stage.uid
    theatre.change(bot() | {"metadata": {"name": "bot-2"}})
    theatre.stage.reaches("Succeeded", "bot-2")
    theatre.becomes(READY)

    assert theatre.seen(before) == expected("flux", "renamed")


def test_a_finished_job_is_changed_as_documented(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """A new name and a new destination: it runs, and the finished one goes; its result stays where it is."""
    plays(standin)
    start_operator().start()
    theatre.sync(bot())
    theatre.stage.reaches("Succeeded")
    theatre.becomes(READY)
    before = theatre.stage.uid
    next_one = bot(**steps(7), output={"destination": "s3://bucket/bot-2"})
    theatre.change(next_one | {"metadata": {"name": "bot-2"}})
    theatre.stage.reaches("Succeeded", "bot-2")
    theatre.becomes(READY)

    assert theatre.seen(before) == expected("flux", "a new run")


def test_restored(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """A new cluster from the same git: preflight finds the result at its destination."""
    found = Outcome(
        outcome="Succeeded", reason="AlreadyPublished", message="this run is already complete at s3://bucket/bot"
    )
    plays(standin, preflight=Play(outcome=found), train=training_succeeds())
    start_operator().start()
    theatre.sync(bot())
    theatre.stage.reaches("Succeeded")
    theatre.becomes(READY)

    assert theatre.stage.trainers() == []
    assert theatre.seen(theatre.stage.uid) == expected("flux", "restored")


@pytest.mark.parametrize(
    ("prune", "key"), [(True, "application deleted"), (False, "application deleted, no finalizer")]
)
def test_the_kustomization_is_deleted(
    theatre: Theatre, start_operator: StartOperator, standin: StandIn, *, prune: bool, key: str
):
    """With `prune: true`, or without."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot(), prune=prune)
    theatre.stage.reaches("Training")
    theatre.becomes(READY)
    theatre.flux.remove(theatre.path)
    if prune:
        eventually(theatre.stage.no_pods, "its Pods are gone", 90)

    assert Seen(theatre.stage.fate(theatre.stage.uid), "") == expected("flux", key)


def documented_expressions() -> Any:
    """Return the health check of the guide."""
    section = (Path(__file__).parents[2] / "docs/guides/gitops.md").read_text().partition("## Flux")[2]
    return yaml.safe_load(section.partition("```yaml\n")[2].partition("```")[0])["healthCheckExprs"]


END = documented_expressions()


def test_a_pipeline_can_wait_for_the_end(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """healthCheckExprs of the guide: a job that runs is in progress, one that has published is ready."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot(), timeout="30s", healthCheckExprs=END)
    theatre.stage.reaches("Training")
    said = theatre.becomes(("False", "HealthCheckFailed"))
    plays(standin)
    theatre.change(bot(output={"destination": "s3://bucket/bot-2"}) | {"metadata": {"name": "bot-2"}})
    theatre.stage.reaches("Succeeded", "bot-2")
    theatre.becomes(READY)

    assert f"timeout waiting for: [FineTuneJob/{theatre.name}/bot status: 'InProgress']" in said
