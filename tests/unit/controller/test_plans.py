"""A FineTunePlan before the status that names it: created once, found again, told of where it cannot be."""

from typing import Any

import pytest
from finetune_operator.api.pinned import PARTS, reported
from finetune_operator.api.status import FineTuneJob, FineTuneJobStatus
from finetune_operator.controller.cluster import Cluster
from finetune_operator.controller.plans import needs_plan
from finetune_operator.controller.reconcile import Reconciler, write_status
from finetune_operator.errors import Conflict, FinetuneError, Forbidden, NameConflict
from finetune_operator.lifecycle.observation import Decision
from finetune_operator.manifests.plan import fine_tune_plan

from tests.unit.controller.scripted import scripted
from tests.unit.controller.test_cluster import EVENTS, JOBS, NOW, a_cluster, raw_job
from tests.unit.lifecycle.lifecycle_builders import a_pool, pinned_status

PLANS = JOBS.replace("finetunejobs", "finetuneplans")


def planned(job: FineTuneJob) -> tuple[FineTuneJobStatus, dict[str, Any]]:
    """Return the status of a job that has just been planned, and the FineTunePlan that this asks for."""
    status = pinned_status(job, a_pool())
    return status, fine_tune_plan(job, status)


def owned(manifest: dict[str, Any], uid: str, **parts: Any) -> dict[str, Any]:
    """Return a FineTunePlan as the API server has it, of the job with a uid."""
    owner = manifest["metadata"]["ownerReferences"][0] | {"uid": uid}
    return manifest | {"metadata": manifest["metadata"] | {"uid": "plan", "ownerReferences": [owner]}} | parts


async def test_a_plan_is_created_once_and_then_known():
    """A status that pins the same again, as each progress report does, creates nothing and reads nothing."""
    async with scripted() as (server, connection):
        cluster, job = await a_cluster(connection)
        status, manifest = planned(job)
        server.replies = {f"POST {PLANS}": (201, owned(manifest, "one"))}
        name = await cluster.plans.pin(job, status)
        cluster.store.put("FineTuneJob", written(status, name))
        again = await cluster.job("one")
        assert again is not None
        later = again.status.model_copy(update={"attempts_without_progress": 1})

        assert (name, await cluster.plans.pin(again, later)) == (manifest["metadata"]["name"], name)
        assert [call for call, _ in server.asked] == [f"POST {PLANS}"]
        assert {part: getattr(again.status, part) for part in PARTS} == {part: getattr(status, part) for part in PARTS}


@pytest.mark.parametrize("dropped", [(), ("runDigest",)], ids=["taken as it was sent", "by an older definition"])
async def test_a_job_that_we_wrote_is_what_reading_it_again_would_give(dropped: tuple[str, ...]):
    """Nothing is read for that; where the API server keeps less than was sent, what it has counts."""
    async with scripted() as (server, connection):
        cluster, job = await a_cluster(connection)
        status, manifest = planned(job)

        def taken(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            kept = {key: value for key, value in body["status"].items() if key not in dropped}
            return 200, raw_job(version="8") | {"status": kept}

        server.replies = {
            f"POST {PLANS}": (201, owned(manifest, "one")),
            f"GET {PLANS}/{manifest['metadata']['name']}": (200, owned(manifest, "one")),
            f"PUT {JOBS}/bot/status": taken,
        }
        await write_status(job, Decision(status=status), cluster, NOW)
        kept = await cluster.job("one")
        other, _ = await a_cluster(connection)
        stored = cluster.store.get("one")
        assert stored is not None
        other.store.take(stored)

        assert kept is not None
        assert kept == await other.job("one")
        assert (kept.spec is job.spec) is not bool(dropped)
        assert kept.status.run_digest == ("" if dropped else status.run_digest)


async def test_a_job_in_progress_is_read_once_for_each_version():
    """One that has ended is not kept. After a restore a version may name something else."""
    async with scripted() as (_server, connection):
        cluster, _ = await a_cluster(connection)
        first, again = await cluster.job("one"), await cluster.job("one")
        cluster.store.rewind("FineTuneJob")
        restored = raw_job()
        restored["spec"] = restored["spec"] | {"suspend": True}
        cluster.store.put("FineTuneJob", restored)
        after = await cluster.job("one")
        ended = raw_job(version="9") | {
            "status": {
                "conditions": [
                    {
                        "type": "Succeeded",
                        "status": "True",
                        "reason": "Any",
                        "lastTransitionTime": "2026-01-31T11:00:00Z",
                    }
                ]
            }
        }
        cluster.store.put("FineTuneJob", ended)
        last = await cluster.job("one")

        assert first is again
        assert first is not None
        assert after is not None
        assert (first.spec.suspend, after.spec.suspend) == (False, True)
        assert first.metadata.resource_version == after.metadata.resource_version
        assert last is not await cluster.job("one")


def written(status: FineTuneJobStatus, name: str | None) -> dict[str, Any]:
    return raw_job(version="8") | {"status": reported(status, name)}


@pytest.mark.parametrize(
    ("uid", "parts", "error", "told"),
    [
        ("one", {}, None, ""),
        ("one", {"preflight": {}}, None, ""),
        ("one", {"plan": {"summary": "another"}}, NameConflict, "is not the one of this job: delete it"),
        ("former", {}, Conflict, "of a deleted job with the same name is still being removed"),
    ],
    ids=["ours", "ours, by definitions that lack fields", "another content", "a former job's"],
)
async def test_a_name_that_is_taken(uid: str, parts: dict[str, Any], error: type[FinetuneError] | None, told: str):
    """Ours is taken as it is; the former job's is waited for; anything else is somebody's own."""
    async with scripted() as (server, connection):
        cluster, job = await a_cluster(connection)
        status, manifest = planned(job)
        name = manifest["metadata"]["name"]
        server.replies = {
            f"POST {PLANS}": (409, {"message": "exists"}),
            f"GET {PLANS}/{name}": (200, owned(manifest, uid, **parts)),
        }
        if error is None:
            assert await cluster.plans.pin(job, status) == name
            return
        with pytest.raises(error, match=told):
            await cluster.plans.pin(job, status)


async def test_a_plan_that_cannot_be_created_is_told_in_an_event():
    """The status that would say it names the plan: an Event is all that can. The second failure is no chance."""
    async with scripted() as (server, connection):
        cluster, job = await a_cluster(connection)
        status, _ = planned(job)
        server.replies = {
            f"POST {PLANS}": (403, {"message": "finetuneplans is forbidden"}),
            f"POST {EVENTS}": lambda body: (201, body),
        }
        for _ in range(2):
            with pytest.raises(Forbidden):
                await write_status(job, Decision(status=status), cluster, NOW)
        (event,) = server.bodies(f"POST {EVENTS}")

    assert event["reason"] == "WriteFailed"
    assert "create the FineTunePlan of this job" in event["note"]
    assert "finetuneplans is forbidden" in event["note"]


async def test_a_plan_that_may_not_be_read_is_told_in_an_event():
    """The job stands still until the right is there."""
    async with scripted() as (server, connection):
        cluster, job = await a_cluster(connection)
        cluster.store.put("FineTuneJob", written(planned(job)[0], "bot-1"))
        server.replies = {
            f"GET {PLANS}/bot-1": (403, {"message": "finetuneplans is forbidden"}),
            f"POST {EVENTS}": lambda body: (201, body),
        }
        with pytest.raises(Forbidden):
            await Reconciler(cluster).work("one")
        (event,) = server.bodies(f"POST {EVENTS}")

    assert event["note"] == "the FineTunePlan of this job cannot be read: finetuneplans is forbidden"


async def gone(cluster: Cluster, status: FineTuneJobStatus) -> FineTuneJobStatus:
    """Return the status of a job whose FineTunePlan does not exist."""
    cluster.store.put("FineTuneJob", written(status, "bot-1"))
    job = await cluster.job("one")
    assert job is not None
    return job.status


async def test_before_the_first_attempt_a_plan_that_is_gone_was_never_there():
    """With an attempt the job keeps what its status says about it."""
    attempt = {"number": 0, "start_time": "2026-01-31T11:00:00Z"}
    async with scripted() as (server, connection):
        cluster, job = await a_cluster(connection)
        server.replies = {f"GET {PLANS}/bot-1": (404, {"message": "not found"})}
        status, _ = planned(job)
        fresh = await gone(cluster, status)
        begun = FineTuneJobStatus.model_validate({"attempts": [attempt]}).attempts
        cluster.store.drop("one")
        cluster.store._deleted.clear()
        lost = await gone(cluster, status.model_copy(update={"attempts": begun}))

    assert (fresh.plan_name, fresh.plan, fresh.unread) == (None, None, None)
    assert lost.unread is not None
    assert (lost.plan_name, lost.plan, lost.unread.summary) == ("bot-1", None, "lora on 1 x H100-80GB-HBM3")


@pytest.mark.parametrize(
    ("succeeded", "attempts", "needed"),
    [(None, 0, True), (None, 1, True), ("True", 0, False), ("True", 1, False), ("False", 1, False), ("False", 0, True)],
)
def test_whose_plan_passes_read(succeeded: str | None, attempts: int, needed: bool):
    """A job that failed before its first attempt may fit later; any other that has ended has ended for good."""
    time = "2026-01-31T11:00:00Z"
    ended = {"type": "Succeeded", "status": succeeded, "reason": "Any", "lastTransitionTime": time}
    status = {
        "conditions": [ended] if succeeded else [],
        "attempts": [{"number": number, "startTime": time} for number in range(attempts)],
    }

    assert needs_plan(FineTuneJobStatus.model_validate(status)) == needed
