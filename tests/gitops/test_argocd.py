"""Jobs that the real Argo CD applies: never green before the operator has looked, and each cell of the table in docs/guides/gitops.md."""

import os
from typing import Any

import pytest
from finetune_contract import Outcome

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import Play, preflight_fails, training_succeeds
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs
from tests.gitops.argocd import APPLICATIONS, Argo, State, application, policy
from tests.gitops.git import Repository
from tests.gitops.stage import Stage, bot, steps
from tests.gitops.table import Seen, expected
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.gitops

Raw = dict[str, Any]
HOLD = {"train": Play(hold=True)}
FORCE = {"argocd.argoproj.io/sync-options": "Replace=true,Force=true"}


class Theatre:
    """An Application over a stage."""

    def __init__(self, argo: Argo, stage: Stage) -> None:
        self.argo, self.stage, self.app = argo, stage, f"app-{stage.namespace}"

    def sync(self, job: Raw, *options: str, annotations: Raw | None = None, **how: bool) -> None:
        """Put a job into git and let Argo CD apply it."""
        self.stage.put(job)
        made = application(
            self.app, self.stage.repo.url, "jobs", self.stage.namespace, syncPolicy=policy(*options, **how)
        )
        made["metadata"]["annotations"] = annotations or {}
        self.argo.apply(made)

    def change(self, job: Raw, how: str = "normal") -> None:
        """Commit another job and let Argo CD look."""
        self.stage.put(job)
        self.argo.refresh(self.app, how)

    def state(self) -> State:
        return self.argo.state(self.app)

    def becomes(self, sync: str, health: str) -> State:
        return self.argo.reaches(self.app, sync, health)

    def seen(self, before: str, name: str = "bot") -> Seen:
        """Return what is left in the end."""
        state = self.state()
        return Seen(self.stage.fate(before, name), f"{state.sync} {state.health}")


@pytest.fixture
def stage(api: Client, standin: StandIn, repo: Repository, namespace: str) -> Stage:
    """A namespace with nothing in it, and an empty repository."""
    return Stage(api, repo, namespace)


@pytest.fixture
def theatre(argo: Argo, stage: Stage) -> Any:
    """The same with Argo CD."""
    opened = Theatre(argo, stage)
    yield opened
    argo.remove(opened.app)


def plays(standin: StandIn, **scripts: Play) -> None:
    standin.scripts["bot"] = scripts


def test_a_job_that_nobody_has_looked_at_is_progressing(
    theatre: Theatre, start_operator: StartOperator, standin: StandIn
):
    """With the operator stopped; then Healthy, when it has published."""
    plays(standin)
    theatre.sync(bot())
    waiting = theatre.becomes("Synced", "Progressing")
    found = theatre.argo.resources(theatre.app)["FineTuneJob/bot"]
    start_operator().start()
    theatre.becomes("Synced", "Healthy")

    assert waiting.message == ""
    assert found == ("Synced", "Progressing", "The operator has not looked at the job yet")


def test_a_failed_job_is_degraded(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """With the operator's own words."""
    plays(standin, preflight=preflight_fails("DatasetInvalid", "row 7 has no text"))
    start_operator().start()
    theatre.sync(bot())
    theatre.becomes("Synced", "Degraded")

    sync, health, message = theatre.argo.resources(theatre.app)["FineTuneJob/bot"]
    assert (sync, health) == ("Synced", "Degraded")
    assert message.startswith("DatasetInvalid: row 7 has no text")


def test_pruned(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """The file of a running job is removed from git."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot())
    theatre.stage.reaches("Training")
    theatre.stage.repo.remove("jobs/job.yaml")
    theatre.stage.repo.commit()
    theatre.argo.refresh(theatre.app)
    eventually(lambda: theatre.stage.job() is None, "the job is pruned", 60)
    theatre.becomes("Synced", "Healthy")
    eventually(theatre.stage.no_pods, "its Pods are gone", 90)

    assert theatre.seen(theatre.stage.uid) == expected("argo", "pruned")


def test_deleted_by_hand(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """Somebody deletes a finished job in the cluster."""
    plays(standin)
    start_operator().start()
    theatre.sync(bot())
    theatre.stage.reaches("Succeeded")
    before = theatre.stage.uid
    theatre.stage.api.delete(f"{jobs(theatre.stage.namespace)}/bot")
    eventually(lambda: theatre.stage.fate(before) == "runs again", "it is made again", 60)
    theatre.stage.reaches("Succeeded")
    theatre.becomes("Synced", "Healthy")

    assert theatre.seen(before) == expected("argo", "deleted by hand")


def test_deleted_by_hand_without_self_heal(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """The same, where Argo CD only follows git."""
    plays(standin)
    start_operator().start()
    theatre.sync(bot(), heal=False)
    theatre.stage.reaches("Succeeded")
    theatre.becomes("Synced", "Healthy")
    theatre.stage.api.delete(f"{jobs(theatre.stage.namespace)}/bot")
    theatre.becomes("OutOfSync", "Healthy")

    assert theatre.seen(theatre.stage.uid) == expected("argo", "deleted, no self-heal")


@pytest.mark.parametrize(
    ("written", "key"), [({}, "suspended by hand"), ({"suspend": False}, "suspended, git says false")]
)
def test_suspended_by_hand(theatre: Theatre, start_operator: StartOperator, standin: StandIn, written: Raw, key: str):
    """Somebody sets spec.suspend in the cluster; git does not name the field, or says false."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot(**written))
    theatre.stage.reaches("Training")
    theatre.becomes("Synced", "Progressing")
    theatre.stage.api.patch(f"{jobs(theatre.stage.namespace)}/bot", {"spec": {"suspend": True}})
    if written:
        eventually(lambda: not theatre.stage.job()["spec"].get("suspend"), "Argo CD takes it back", 60)
        theatre.becomes("Synced", "Progressing")
    else:
        theatre.becomes("Synced", "Suspended")
        theatre.argo.refresh(theatre.app)

    assert theatre.seen(theatre.stage.uid) == expected("argo", key)


def test_time_to_live(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """ttlSecondsAfterFinished has passed; the operator has said why it keeps the job."""
    plays(standin)
    start_operator().start()
    theatre.sync(bot(runPolicy={"ttlSecondsAfterFinished": 0, "podRetentionSeconds": 0}))
    job = theatre.stage.reaches("Succeeded")
    eventually(theatre.stage.no_pods, "the Pods are gone after their own retention", 60)
    theatre.becomes("Synced", "Healthy")
    theatre.argo.refresh(theatre.app)
    said = next(each["message"] for each in job["status"]["conditions"] if each["type"] == "Succeeded")

    assert said.endswith(
        "ttlSecondsAfterFinished is ignored, because Argo CD would create the job again: remove it from git instead"
    )
    assert theatre.seen(theatre.stage.uid) == expected("argo", "time to live")


@pytest.mark.parametrize(
    ("key", "options", "annotations"),
    [
        ("frozen, client-side", (), {}),
        ("frozen, replace", ("Replace=true",), {}),
        ("frozen, server-side, client diff", ("ServerSideApply=true",), {"argocd.argoproj.io/compare-options": "ServerSideDiff=false"}),
    ],
)  # fmt: skip
def test_frozen(
    theatre: Theatre,
    start_operator: StartOperator,
    standin: StandIn,
    key: str,
    options: tuple[str, ...],
    annotations: Raw,
):
    """Git changes a field that is frozen with the first attempt: the sync fails with the API server's sentence."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot(), *options, annotations=annotations)
    theatre.stage.reaches("Training")
    theatre.becomes("Synced", "Progressing")
    theatre.change(bot(**steps(7)))
    theatre.becomes("OutOfSync", "Progressing")
    said = eventually(lambda: frozen_sentence(theatre.state().message), "the sentence is shown", 60)
    theatre.argo.refresh(theatre.app)

    assert said
    assert theatre.seen(theatre.stage.uid) == expected("argo", key)


def frozen_sentence(message: str) -> bool:
    return (
        "spec.training cannot be changed once the first attempt has started: apply the changed job under a new name"
        in message
    )


def test_frozen_with_server_side_apply(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """The comparison itself is refused, and said; later Argo CD shows Synced although git and cluster differ."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot(), "ServerSideApply=true")
    theatre.stage.reaches("Training")
    theatre.becomes("Synced", "Progressing")
    theatre.change(bot(**steps(7)))
    eventually(lambda: theatre.state().sync == "Unknown", "it is not compared", 60)
    said, seen = theatre.state().message, []

    def looks_again() -> bool:  # each comparison may be refused anew, so what is shown changes between the two
        path = f"{jobs(theatre.stage.namespace)}/bot"
        theatre.stage.api.patch(path, {"metadata": {"labels": {"poked": os.urandom(4).hex()}}})
        seen.append(theatre.seen(theatre.stage.uid))
        return seen[-1].tool.startswith("Synced")

    eventually(looks_again, "it is called Synced", 60)
    job = theatre.stage.job()

    assert frozen_sentence(said)
    assert job is not None
    assert "training" not in job["spec"]
    assert seen[-1] == expected("argo", "frozen, server-side")


def test_frozen_with_force(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """Replace=true,Force=true on the job: deleted and made again."""
    plays(standin)
    start_operator().start()
    theatre.sync(bot() | {"metadata": {"name": "bot", "annotations": FORCE}})
    theatre.stage.reaches("Succeeded")
    before = theatre.stage.uid
    theatre.change(bot(**steps(7)) | {"metadata": {"name": "bot", "annotations": FORCE}})
    eventually(lambda: theatre.stage.fate(before) == "runs again", "it is made again", 60)
    theatre.stage.reaches("Succeeded")
    theatre.becomes("Synced", "Healthy")

    assert theatre.seen(before) == expected("argo", "frozen, force")


def test_the_budget_is_raised(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """A field that is not frozen."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot(runPolicy={"budget": {"maxCostUSD": "20.00"}}))
    theatre.stage.reaches("Training")
    theatre.change(bot(runPolicy={"budget": {"maxCostUSD": "30.00"}}))
    eventually(lambda: theatre.stage.job()["spec"]["runPolicy"]["budget"]["maxCostUSD"] == "30.00", "it is raised", 60)
    theatre.becomes("Synced", "Progressing")

    assert theatre.seen(theatre.stage.uid) == expected("argo", "budget raised")


def test_renamed(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """The name of a running job is changed in git, and nothing else."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot())
    theatre.stage.reaches("Training")
    before = theatre.stage.uid
    theatre.change(bot() | {"metadata": {"name": "bot-2"}})
    theatre.stage.reaches("Succeeded", "bot-2")
    theatre.becomes("Synced", "Healthy")

    assert theatre.seen(before) == expected("argo", "renamed")


def test_a_finished_job_is_changed_as_documented(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """A new name and a new destination: it runs, and the finished one goes; its result stays where it is."""
    plays(standin)
    start_operator().start()
    theatre.sync(bot())
    theatre.stage.reaches("Succeeded")
    before = theatre.stage.uid
    next_one = bot(**steps(7), output={"destination": "s3://bucket/bot-2"})
    theatre.change(next_one | {"metadata": {"name": "bot-2"}})
    theatre.stage.reaches("Succeeded", "bot-2")
    theatre.becomes("Synced", "Healthy")

    assert theatre.seen(before) == expected("argo", "a new run")


def test_restored(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """A new cluster from the same git: preflight finds the result at its destination."""
    found = Outcome(
        outcome="Succeeded", reason="AlreadyPublished", message="this run is already complete at s3://bucket/bot"
    )
    plays(standin, preflight=Play(outcome=found), train=training_succeeds())
    start_operator().start()
    theatre.sync(bot())
    job = theatre.stage.reaches("Succeeded")
    theatre.becomes("Synced", "Healthy")
    reasons = {each["reason"] for each in job["status"]["conditions"] if each["type"] == "Succeeded"}

    assert (reasons, theatre.stage.trainers()) == ({"AlreadyPublished"}, [])
    assert theatre.seen(theatre.stage.uid) == expected("argo", "restored")


@pytest.mark.parametrize(
    ("cascade", "key"), [(True, "application deleted"), (False, "application deleted, no finalizer")]
)
def test_the_application_is_deleted(
    theatre: Theatre, start_operator: StartOperator, standin: StandIn, *, cascade: bool, key: str
):
    """With Argo CD's finalizer, or without."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot())
    theatre.stage.reaches("Training")
    if not cascade:
        theatre.argo.api.patch(f"{APPLICATIONS}/{theatre.app}", {"metadata": {"finalizers": None}})
    theatre.argo.remove(theatre.app)
    if cascade:
        eventually(theatre.stage.no_pods, "its Pods are gone", 90)

    assert Seen(theatre.stage.fate(theatre.stage.uid), "") == expected("argo", key)


@pytest.mark.parametrize(
    "options", [(), ("ServerSideApply=true",), ("Replace=true",)], ids=["client", "server", "replace"]
)
def test_a_run_is_no_drift(theatre: Theatre, start_operator: StartOperator, standin: StandIn, options: tuple[str, ...]):
    """Defaults of the API server, and everything that the operator writes, are no difference to git: also in a job with lists."""
    plays(standin)
    start_operator().start()
    data = [{"source": "s3://bucket/train.jsonl", "invalidRows": {"action": "skip"}}]
    theatre.sync(bot(datasets=data, podMetadata={"labels": [{"key": "team", "value": "a"}]}), *options)
    theatre.stage.reaches("Succeeded")
    theatre.becomes("Synced", "Healthy")
    theatre.argo.refresh(theatre.app, "hard")
    done = theatre.argo.cli("app", "diff", theatre.app)

    assert theatre.state() == State("Synced", "Healthy")
    assert (done.returncode, done.stdout) == (0, "")


def test_an_action(theatre: Theatre, start_operator: StartOperator, standin: StandIn):
    """`argocd app actions run`: suspend, then resume, on a job whose git file does not name the field."""
    plays(standin, **HOLD)
    start_operator().start()
    theatre.sync(bot())
    theatre.stage.reaches("Training")
    offered = theatre.argo.cli("app", "actions", "list", theatre.app, "--kind", "FineTuneJob")
    done = theatre.argo.cli("app", "actions", "run", theatre.app, "suspend", "--kind", "FineTuneJob")
    eventually(lambda: theatre.stage.job()["spec"].get("suspend"), "it is suspended", 60)
    theatre.becomes("Synced", "Suspended")

    assert {"suspend", "resume", "raise-budget"} <= set(offered.stdout.split())
    assert (done.returncode, done.stderr) == (0, "")


def test_the_managers_are_named(
    theatre: Theatre, start_operator: StartOperator, standin: StandIn, control_plane: ControlPlane
):
    """Who wrote what: git's fields are Argo CD's, the status is the operator's."""
    plays(standin)
    start_operator().start()
    theatre.sync(bot())
    theatre.stage.reaches("Succeeded")
    job = control_plane.get("ftj", "bot", "-n", theatre.stage.namespace, "--show-managed-fields")
    managers = {each["manager"]: sorted(each["fieldsV1"]) for each in job["metadata"]["managedFields"]}

    assert managers == {"argocd-controller": ["f:metadata", "f:spec"], "finetune-operator": ["f:status"]}
