"""One pass against an API server that answers late, twice, or not as it was asked to."""

from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest
from finetune_operator.api.reasons import Phase
from finetune_operator.api.status import FineTuneJob
from finetune_operator.controller import patience
from finetune_operator.controller.api import Api
from finetune_operator.controller.cluster import Cluster
from finetune_operator.controller.connection import Connection
from finetune_operator.controller.events import Recorder
from finetune_operator.controller.progress import ProgressReader
from finetune_operator.controller.reconcile import Tally, reconcile, ungate
from finetune_operator.controller.store import Store
from finetune_operator.controller.warnings import Warnings
from finetune_operator.errors import ClusterUnavailable, Conflict, Forbidden
from finetune_operator.lifecycle.observation import Child, Decision, Event, Settings

from tests.unit.controller.scripted import scripted
from tests.unit.smallest_spec import SMALLEST_SPEC

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
JOBS = "/apis/finetune.dev/v1alpha1/namespaces/team/finetunejobs"
PODS = "/api/v1/namespaces/team/pods"
CREATED = {"creationTimestamp": "2026-01-31T12:00:00Z"}
EVENTS = "/apis/events.k8s.io/v1/namespaces/team/events"


def raw_job(uid: str = "one", version: str = "7") -> dict[str, Any]:
    """Return a job as the API server sends it."""
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {
            "name": "bot", "namespace": "team", "uid": uid, "resourceVersion": version, "generation": 1,
            "creationTimestamp": "2026-01-31T11:00:00Z",
        },
        "spec": SMALLEST_SPEC,
    }  # fmt: skip


def raw_pod(owner: str = "one") -> dict[str, Any]:
    """Return a Pod of a job."""
    references = [{"kind": "FineTuneJob", "name": "bot", "uid": owner, "controller": True}]
    labels = {"finetune.dev/job-name": "bot"}
    metadata = {"name": "bot-0-1", "namespace": "team", "uid": "pod", "resourceVersion": "8", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata | {"ownerReferences": references}}


async def a_cluster(connection: Connection) -> tuple[Cluster, FineTuneJob]:
    """Return the shell around a store that knows one job."""
    api = Api(connection=connection)
    store, recorder = Store(), Recorder(api, "tests")
    store.put("FineTuneJob", raw_job())
    cluster = Cluster(
        api, store, recorder, ProgressReader(api, 10.0, lambda _: None), Warnings(api, lambda _: None), Settings()
    )
    job = await cluster.job("one")
    assert job is not None
    return cluster, job


async def test_what_was_said_about_a_job_is_forgotten_with_it():
    """Said twice it is one Event; of a job that is gone nothing is kept."""
    async with scripted() as (server, connection):
        server.replies = {f"POST {EVENTS}": lambda body: (201, body)}
        cluster, job = await a_cluster(connection)
        event = Event(type="Normal", reason="Planned", message="lora on 1 x H100")
        for _ in range(2):
            await cluster.publish(job, (event,), NOW)
        once = len(server.bodies(f"POST {EVENTS}"))
        cluster.forget("one")
        kept = (dict(cluster.recorder._said), dict(cluster.recorder._tokens))
        await cluster.publish(job, (event,), NOW)

        assert (once, kept, len(server.bodies(f"POST {EVENTS}"))) == (1, ({}, {}), 2)


async def test_a_child_that_was_created_without_an_answer_is_news():
    """The retry meets it before the watch tells of it: the next pass must look at it, since the watch will say nothing new."""
    async with scripted() as (server, connection):
        server.replies = {f"POST {PODS}": (409, {}), f"GET {PODS}/bot-0-1": (200, raw_pod())}
        cluster, job = await a_cluster(connection)

        assert [await cluster.create(job, raw_pod()) for _ in range(2)] == [True, False]
        assert cluster.store.put("Pod", raw_pod()) is False


async def test_a_job_that_took_the_name_is_left_to_the_watch():
    """Taken in by a pass over the former one, it would never get a pass of its own."""
    async with scripted() as (server, connection):
        server.replies = {
            f"PUT {JOBS}/bot/status": (409, {"message": "older"}),
            f"GET {JOBS}": (200, {"items": [raw_job("two")]}),
        }
        cluster, job = await a_cluster(connection)
        with pytest.raises(Conflict, match="older"):
            await cluster.write_status(job, job.status.model_copy(update={"phase": Phase.PREFLIGHT}), None)

        assert cluster.store.get("two") is None


async def test_a_job_that_somebody_changed_is_read_again():
    """The watch may be late."""
    async with scripted() as (server, connection):
        newer = raw_job(version="9")
        server.replies = {f"PUT {JOBS}/bot/status": (409, {}), f"GET {JOBS}": (200, {"items": [newer]})}
        cluster, job = await a_cluster(connection)
        with pytest.raises(Conflict):
            await cluster.write_status(job, job.status.model_copy(update={"phase": Phase.PREFLIGHT}), None)

        assert [stored.version for stored in cluster.store.of_kind("FineTuneJob")] == [9]


@pytest.mark.parametrize("version", ["7", "8"])
async def test_a_status_that_the_crds_cannot_hold_is_not_written_without_end(
    version: str, monkeypatch: pytest.MonkeyPatch
):
    """CRDs older than the operator drop what they do not know, all of it or a part: there is nothing to look at again."""
    monkeypatch.setattr(patience, "LONGEST_SECONDS", 0.0)
    async with scripted() as (server, connection):
        server.replies = {
            f"PUT {JOBS}/bot/status": (200, raw_job(version=version)),
            f"POST {PODS}": (403, {"message": "exceeded quota"}),
        }
        cluster, job = await a_cluster(connection)
        refused = await reconcile(job, cluster, NOW)  # it has a Pod to create, and is told why it cannot
        standing = await reconcile(job, cluster, NOW)

    assert (refused == 0.0, standing == 0.0) == (True, False)


@pytest.mark.parametrize(("policy", "at_once"), [({"ttlSecondsAfterFinished": 0}, True), ({}, False)])
async def test_a_status_that_is_one_step_of_several_is_followed_by_the_next(policy: dict[str, int], at_once: bool):
    """A job that has failed and is not to be kept is deleted by the next pass; one that is kept needs none."""
    spec = SMALLEST_SPEC | {"method": "full", "lora": {"rank": 8}, "runPolicy": policy}
    async with scripted() as (server, connection):
        server.replies = {f"PUT {JOBS}/bot/status": (200, raw_job(version="8"))}
        cluster, _ = await a_cluster(connection)
        job = FineTuneJob.model_validate(raw_job() | {"spec": spec})
        delay = await reconcile(job, cluster, NOW)
        (written,) = server.bodies(f"PUT {JOBS}/bot/status")

    assert (written["status"]["phase"], delay == 0.0) == ("Failed", at_once)


async def test_what_was_decided_is_told_even_if_it_cannot_be_carried_out(monkeypatch: pytest.MonkeyPatch):
    """The status is written by then: to the next pass it is no news."""
    monkeypatch.setattr(patience, "LONGEST_SECONDS", 0.0)
    async with scripted() as (server, connection):
        server.replies = {
            f"PUT {JOBS}/bot/status": (200, raw_job(version="8")),
            f"POST {PODS}": (503, {"message": "overloaded"}),
            f"POST {EVENTS}": lambda body: (201, body),
        }
        cluster, job = await a_cluster(connection)
        with pytest.raises(ClusterUnavailable, match="overloaded"):
            await reconcile(job, cluster, NOW)
        told = [event["reason"] for event in server.bodies(f"POST {EVENTS}")]

    assert told == ["Examining"]


@pytest.mark.parametrize(("there", "left"), [("pod", ["pod"]), ("another", [])])
async def test_a_conflict_of_a_deletion_is_not_taken_for_a_deletion(there: str, left: list[str]):
    """Only where another object has the name is ours gone; else it is tried again, and still known."""
    now = raw_pod() | {"metadata": raw_pod()["metadata"] | {"uid": there}}
    replies = {f"DELETE {PODS}/bot-0-1": (409, {"message": "busy"}), f"GET {PODS}/bot-0-1": (200, now)}
    async with scripted(replies=replies) as (_, connection):
        cluster, job = await a_cluster(connection)
        cluster.store.put("Pod", raw_pod())
        with pytest.raises(Conflict, match="busy") if left else nullcontext():
            await cluster.delete(job, Child(kind="Pod", name="bot-0-1", uid="pod"))

        assert [each.uid for each in cluster.store.members("team/bot", "Pod")] == left


async def test_that_preflight_begins_is_written_once_it_has_lasted(monkeypatch: pytest.MonkeyPatch):
    """The Pod has a fixed name and may be over before anybody reads of it: it is created first, and told a moment later."""
    async with scripted() as (server, connection):
        server.replies = {
            f"PUT {JOBS}/bot/status": (200, raw_job(version="8")),
            f"POST {PODS}": lambda body: (
                201,
                raw_pod() | {"metadata": raw_pod()["metadata"] | body["metadata"] | CREATED},
            ),
            f"POST {EVENTS}": lambda body: (201, body),
        }
        cluster, job = await a_cluster(connection)
        waits = [await reconcile(job, cluster, NOW) for _ in range(2)]
        asked = [call for call, _ in server.asked]
        monkeypatch.setattr(patience, "LONGEST_SECONDS", 0.0)
        await reconcile(job, cluster, NOW)
        written = server.bodies(f"PUT {JOBS}/bot/status")

    assert ([0 < (wait or 0) <= 30 for wait in waits], asked) == ([True, True], [f"POST {PODS}"])
    assert [body["status"]["phase"] for body in written] == ["Preflight"]
    assert [set(body) for body in written] == [{"apiVersion", "kind", "metadata", "status"}]


async def test_the_gates_of_a_gang_are_lifted_together():
    """Those beside the one that fails, too; the failure is told by its Pod's name."""
    names = tuple(f"bot-0-{number}" for number in range(20))
    async with scripted() as (server, connection):
        server.replies = {
            f"PATCH {PODS}/{name}": (200, raw_pod() | {"metadata": raw_pod()["metadata"] | {"name": name, "uid": name}})
            for name in names
        } | {f"PATCH {PODS}/bot-0-3": (403, {"message": "no"})}
        cluster, job = await a_cluster(connection)
        tally = Tally()
        with pytest.raises(Forbidden, match="no"):
            await ungate(job, Decision(status=job.status, ungate=names), cluster, tally)
        asked = {call for call, _ in server.asked}

    assert asked == {f"PATCH {PODS}/{name}" for name in names[:16]}
    assert tally.doing == "lift the scheduling gate of Pod bot-0-3"
