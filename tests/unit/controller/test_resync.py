"""Comparisons with the API server: what a watch missed, and a store that was put back to an earlier revision."""

import asyncio
from typing import Any

from finetune_operator.controller.api import Api
from finetune_operator.controller.namespaces import Namespaces
from finetune_operator.controller.resync import Resync
from finetune_operator.controller.store import Store
from finetune_operator.controller.stored import KINDS, collection

from tests.unit.controller.scripted import scripted


def a_job(uid: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": uid, "namespace": "team", "uid": uid, "resourceVersion": str(version)}}


def a_list(version: int, *items: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"metadata": {"resourceVersion": str(version)}, "items": list(items)}


def lists(version: int, *jobs: dict[str, Any]) -> dict[str, Any]:
    """Return the answers of a server at a revision that has these jobs and nothing else."""
    empty = {f"GET {collection(kind)}": a_list(version) for kind in KINDS}
    return empty | {f"GET {collection('FineTuneJob')}": a_list(version, *jobs)}


def test_a_restored_store_is_read_anew():
    """Version 40 after version 90: what was deleted since is back, what is old is taken, what is newer is gone."""

    async def go() -> tuple[list[str], list[str]]:
        store, changed = Store(), []
        async with scripted(replies=lists(90, a_job("kept", 80), a_job("younger", 85))) as (script, connection):
            resync = Resync(
                Api(connection=connection), store, Namespaces(), 300, changed=lambda stored: changed.append(stored.uid),
                gone=lambda uid: store.drop(uid) and None, lag_seconds=0,
            )  # fmt: skip
            await resync.once()
            store.drop("deleted")
            script.replies = lists(40, a_job("kept", 30), a_job("deleted", 35))
            await resync.once()
        return changed, sorted(f"{each.uid} {each.version}" for each in store.of_kind("FineTuneJob"))

    changed, known = asyncio.run(go())

    assert changed == ["kept", "younger", "kept", "deleted"]
    assert known == ["deleted 35", "kept 30"]


def test_lists_that_lag_are_no_restored_store():
    """Of several API servers one shows what was: the list is asked for again until it has caught up, and nothing is forgotten."""

    async def go() -> tuple[list[str], list[str]]:
        store, gone = Store(), []
        async with scripted(replies=lists(90, a_job("old", 80), a_job("new", 85))) as (script, connection):
            resync = Resync(
                Api(connection=connection),
                store,
                Namespaces(),
                300,
                changed=lambda *_: None,
                gone=gone.append,
                lag_seconds=0,
            )
            await resync.once()
            path = f"GET {collection('FineTuneJob')}"
            answers = iter(
                [
                    a_list(40, a_job("old", 30)),
                    a_list(89, a_job("old", 80)),
                    a_list(95, a_job("old", 80), a_job("new", 85)),
                ]
            )
            script.replies = lists(95) | {path: lambda _: next(answers)}
            await resync.once()
        return gone, sorted(f"{each.uid} {each.version}" for each in store.of_kind("FineTuneJob"))

    assert asyncio.run(go()) == ([], ["new 85", "old 80"])
