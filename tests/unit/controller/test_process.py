"""The parts of the process that nothing may end in silence: the lease, the first questions, what is remembered."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from finetune_operator.controller import leader, resync, startup
from finetune_operator.controller.api import Api
from finetune_operator.controller.connection import Connection, connect
from finetune_operator.controller.handlers import Watches
from finetune_operator.controller.namespaces import Namespaces
from finetune_operator.controller.process import Operator
from finetune_operator.controller.resync import Resync
from finetune_operator.controller.settings import OperatorSettings
from finetune_operator.controller.store import Store
from finetune_operator.errors import ClusterUnavailable, FinetuneError, NameConflict
from finetune_operator.lifecycle.observation import Refusal

from tests.unit.controller.scripted import scripted, until
from tests.unit.lifecycle.lifecycle_builders import a_job

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
GROUP = "/apis/finetune.dev/v1alpha1"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/system/leases"
COLLECTIONS = (
    f"{GROUP}/finetunejobs",
    f"{GROUP}/gpupools",
    f"{GROUP}/finetunepolicies",
    "/api/v1/pods",
    "/api/v1/services",
)
EMPTY = {"metadata": {"resourceVersion": "1"}, "items": []}


def an_operator(connection: Connection, **settings: Any) -> Operator:
    """Return an operator that is not started."""
    return Operator(settings=OperatorSettings(**settings), connection=connection)


async def test_a_lease_keeper_that_fails_ends_the_operator(monkeypatch: pytest.MonkeyPatch):
    """Without it every write would be refused after ten seconds, for ever, by a process that looks well."""
    monkeypatch.setattr(leader, "RETRY_SECONDS", 0.01)
    async with scripted() as (server, connection):
        server.replies = {f"POST {LEASE}": (201, {"kind": "Lease"})} | {
            f"GET {path}": (200, EMPTY) for path in COLLECTIONS
        }
        operator = an_operator(connection, leader_election=True, lease_namespace="system")
        leading = asyncio.create_task(operator._lead())
        await until(lambda: operator.synced)
        async with asyncio.timeout(10):
            server.replies[f"GET {LEASE}/finetune-operator"] = (200, {"spec": {"holderIdentity": "other"}})
            with pytest.raises(ExceptionGroup) as ended:
                await leading

    assert ended.group_contains(KeyError)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_api_server_that_is_starting_is_not_one_without_our_definitions(
    status: int, monkeypatch: pytest.MonkeyPatch
):
    """It is waited for; only its own word that it does not know the group ends the process."""
    async with scripted() as (server, connection):
        monkeypatch.setattr(startup, "START_SECONDS", 0.0)
        server.replies = {f"GET {GROUP}": (status, {"message": "not now"})}
        with pytest.raises(ClusterUnavailable, match="not now"):
            await startup.require_crds(Api(connection=connection))
        server.replies = {}

        with pytest.raises(FinetuneError, match="does not serve"):
            await startup.require_crds(Api(connection=connection))


async def test_nothing_stays_remembered_of_a_job_that_deleted_itself():
    """Our own delete has taken it out of the store before the watch says so."""
    async with scripted() as (_, connection):
        operator = an_operator(connection)
        job = a_job()
        operator.cluster.refusals.remember(job, NameConflict("taken"), NOW)
        known = operator.cluster.refusals.of(job)
        operator.gone(job.metadata.uid)

    assert known == Refusal(reason="NameConflict", message="taken", at=NOW)
    assert operator.cluster.refusals.of(job) is None


async def test_a_comparison_that_failed_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch):
    """After a gap of a watch it is what finds the deletions: the API server is busiest just then."""
    monkeypatch.setattr(resync, "GAP_SECONDS", 0.0)
    monkeypatch.setattr(resync, "RETRY_SECONDS", 0.01)
    async with scripted() as (server, connection):
        operator = an_operator(connection, resync_seconds=3600)
        running = asyncio.create_task(operator.resync.run())
        operator.resync.soon()
        await until(lambda: len(server.asked) >= 2)
        server.replies = {f"GET {path}": (200, EMPTY) for path in COLLECTIONS}
        await until(lambda: operator.resync.last_success is not None)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_credentials_are_read_again_before_they_are_refused(tmp_path: Path):
    """A token of an exec plugin lasts a quarter of an hour; the old one is taken until then."""
    async with scripted() as (server, connection):
        server.replies = {f"GET {GROUP}": (200, {})}
        path = tmp_path / "config"
        write_kubeconfig(path, connection.configuration.host, "old")
        ours = await connect(str(path))
        readable = Resync(
            Api(connection=ours), Store(), Namespaces(), 300, changed=lambda *_: None, gone=lambda _: None
        ).probe
        watches = Watches(
            OperatorSettings(),
            ours,
            lambda *_: None,
            lambda: pytest.fail("refused"),
            Namespaces(),
            readable,
            lambda: None,
        )
        first = await watches._login()
        write_kubeconfig(path, connection.configuration.host, "new")
        second = await watches._login()
        await ours.close()

    assert (first.token, second.token, ours.token) == ("old", "new", "new")


def write_kubeconfig(path: Path, server: str, token: str) -> None:
    """Write a kubeconfig of one user."""
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    path.write_text(json.dumps(config))
