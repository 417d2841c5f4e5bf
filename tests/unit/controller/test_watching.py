"""A watch of our own: what it asks, what it tells, and where it begins again."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from finetune_operator.controller import watching
from finetune_operator.controller.api import Api
from finetune_operator.controller.watching import Watch
from finetune_operator.errors import Forbidden

from tests.unit.controller.scripted import served, until

Raw = dict[str, Any]
Said = tuple[str | None, str, str]
"""Event type, name and resourceVersion of what was heard."""


def a_pod(name: str, version: int) -> Raw:
    """Return as much of a Pod as a watch looks at."""
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}


def a_line(kind: str, raw: Raw) -> bytes:
    """Return a line of a watch."""
    return json.dumps({"type": kind, "object": raw}).encode() + b"\n"


def a_list(version: int, *pods: Raw, following: str = "") -> Raw:
    """Return a page of a list."""
    return {"metadata": {"resourceVersion": str(version), "continue": following}, "items": list(pods)}


@dataclass
class Server:
    """Answers lists and watches in the order of its scripts; the last watch stays open and says no more."""

    lists: list[Raw | int]
    """A page, or the status of a refusal."""
    watches: list[bytes | int]
    """What is sent before the connection is closed, or the status of a refusal."""
    asked: list[str] = field(default_factory=list)
    """`list`, or `watch` and the version it began at."""
    heard: list[Said] = field(default_factory=list)
    renewals: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        query = request.query
        assert query["labelSelector"] == "finetune.dev/job-uid"
        if query.get("watch") != "true":
            self.asked.append("list")
            return answered(self.lists.pop(0))
        assert (query["allowWatchBookmarks"], query["timeoutSeconds"]) == ("true", "290")
        self.asked.append(f"watch {query['resourceVersion']}")
        said = self.watches.pop(0) if self.watches else b""
        if isinstance(said, int):
            return answered(said)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(said)
        if not self.watches:
            await self.over.wait()
        if not said.endswith(b"\n") and request.transport is not None:
            request.transport.abort()
        return response

    def hear(self, kind: str, event: str | None, raw: Raw) -> None:
        """Note what the watch tells."""
        assert kind == "Pod"
        self.heard.append((event, raw["metadata"]["name"], raw["metadata"]["resourceVersion"]))

    async def renewed(self) -> None:
        """Count how often credentials were asked for."""
        self.renewals += 1


def answered(what: Raw | int) -> web.Response:
    """Return a page, or a refusal."""
    return (
        web.json_response({"message": f"fault {what}"}, status=what)
        if isinstance(what, int)
        else web.json_response(what)
    )


@asynccontextmanager
async def watched(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator["asyncio.Task[None]"]:
    """Watch the Pods of a server while the block runs."""
    monkeypatch.setattr(watching, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(watching, "LONGEST_PAUSE_SECONDS", 0.001)
    app = web.Application()
    app.router.add_get("/api/v1/pods", server.answer)
    async with served(app) as connection:
        watch = Watch(Api(connection=connection), "Pod", "", server.hear, server.renewed)
        task = asyncio.create_task(watch.run())
        try:
            yield task
        finally:
            server.over.set()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_watch_goes_on_after_the_list(monkeypatch: pytest.MonkeyPatch):
    """All pages first; then what changes. A bookmark is no news, but what comes after it is asked for next time."""
    lines = a_line("ADDED", a_pod("c", 12)) + a_line("MODIFIED", a_pod("a", 13)) + a_line("DELETED", a_pod("b", 14))
    server = Server(
        [a_list(11, a_pod("a", 3), following="more"), a_list(11, a_pod("b", 4))],
        [lines + a_line("BOOKMARK", {"metadata": {"resourceVersion": "20"}}), b""],
    )
    async with watched(server, monkeypatch):
        await until(lambda: len(server.asked) == 4)

    assert server.asked == ["list", "list", "watch 11", "watch 20"]
    assert server.heard == [
        (None, "a", "3"), (None, "b", "4"), ("ADDED", "c", "12"), ("MODIFIED", "a", "13"), ("DELETED", "b", "14"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "end",
    [b"", b'{"type": "MODIFIED", "object": {"meta', 429],
    ids=["closed", "a line that was cut", "too many requests"],
)
async def test_a_watch_that_breaks_off_begins_where_it_ended(end: bytes | int, monkeypatch: pytest.MonkeyPatch):
    """What was told late or twice does not take it back."""
    lines = a_line("ADDED", a_pod("a", 9)) + a_line("MODIFIED", a_pod("a", 7)) + a_line("MODIFIED", a_pod("a", 9))
    broken = [lines + end] if isinstance(end, bytes) else [lines, end]
    server = Server([a_list(5)], [*broken, a_line("MODIFIED", a_pod("a", 10))])
    async with watched(server, monkeypatch):
        await until(lambda: len(server.heard) == 4)

    assert server.asked == ["list", "watch 5", *["watch 9"] * (len(broken))]
    assert server.heard == [
        ("ADDED", "a", "9"),
        ("MODIFIED", "a", "7"),
        ("MODIFIED", "a", "9"),
        ("MODIFIED", "a", "10"),
    ]


@pytest.mark.parametrize(
    "end",
    [
        a_line("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"}),
        a_line("ERROR", {"kind": "Status", "code": 500, "message": "etcdserver: leader changed"}),
        410,
        504,
        403,
    ],
    ids=["an ERROR line 410", "an ERROR line 500", "410", "504 of a restored store", "403"],
)
async def test_a_watch_that_cannot_go_on_lists_again(end: bytes | int, monkeypatch: pytest.MonkeyPatch):
    """After a restore the newest version is a lower one, and the watch begins there."""
    server = Server([a_list(50, a_pod("a", 49)), a_list(30, a_pod("a", 29))], [end, b""])
    async with watched(server, monkeypatch):
        await until(lambda: len(server.asked) == 4)

    assert server.asked == ["list", "watch 50", "list", "watch 30"]
    assert server.heard == [(None, "a", "49"), (None, "a", "29")]


async def test_a_watch_whose_credentials_are_refused_waits_for_new_ones(monkeypatch: pytest.MonkeyPatch):
    """A token has expired: it is read again, and nothing is listed again for that."""
    server = Server([401, a_list(5)], [401, b""])
    async with watched(server, monkeypatch):
        await until(lambda: len(server.asked) == 4)

    assert (server.asked, server.renewals) == (["list", "list", "watch 5", "watch 5"], 2)


async def test_what_fails_for_five_minutes_ends_the_watch(monkeypatch: pytest.MonkeyPatch):
    """Somebody else has to see to it: the process ends, and its successor says why it cannot begin."""
    monkeypatch.setattr(watching, "OUTAGE_SECONDS", 0.0)
    async with watched(Server([403], []), monkeypatch) as task:
        with pytest.raises(Forbidden, match="fault 403"):
            await task


async def test_a_watch_that_is_silent_for_too_long_begins_again(monkeypatch: pytest.MonkeyPatch):
    """The API server ends each watch by itself: one that does not end is one whose other end is gone."""
    monkeypatch.setattr(watching, "LONGEST_SECONDS", 0.05)
    server = Server([a_list(5)], [])
    async with watched(server, monkeypatch):
        await until(lambda: len(server.asked) == 3)

    assert server.asked == ["list", "watch 5", "watch 5"]
