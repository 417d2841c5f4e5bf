"""One request to the API server and its answer: JSON in, JSON out, failures as our own errors. Called by cluster."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

import orjson

from finetune_operator.controller.clock import ServerClock
from finetune_operator.controller.pace import Pace
from finetune_operator.errors import ClusterUnavailable, Conflict, FinetuneError, Forbidden, ServerFailed, Unauthorized

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"

Page = tuple[list[dict[str, Any]], str]
"""Objects, and the resourceVersion of the list that they are from."""

REQUEST_SECONDS = 15.0
WRITE_SECONDS = 35.0
"""A webhook may take 30 s before the API server fails it, or goes on without it. Whoever hangs up before that never gets an answer."""

CONNECT_SECONDS = 5.0
PAGE_ITEMS = 100
"""A page is in memory three times over while it is read: 100 jobs are 5 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the API server said."""

    status: int
    content: bytes = b""

    @property
    def text(self) -> str:
        """What was said, as it is: a log, a proxy's HTML page, or JSON."""
        return self.content.decode(errors="replace")

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object that was said, empty where it was none. Read anew each time: of most writes nobody asks for it."""
        try:
            found = orjson.loads(self.content)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def message(self) -> str:
        """The server's own sentence about a failure."""
        return str(self.body.get("message") or self.text[:500] or f"HTTP {self.status}")

    def expect(self, *statuses: int) -> dict[str, Any]:
        """Return the body if the status is one of these (default: any 2xx). Raises the error that fits otherwise."""
        self.check(*statuses)
        return self.body

    def check(self, *statuses: int) -> None:
        """Do the same for a caller that does not read the body."""
        accepted = statuses or range(200, 300)
        if self.status not in accepted:
            raise failure(self)


def failure(answer: Answer) -> FinetuneError:
    """Tell by the status who must act."""
    match answer.status:
        case 401:
            return Unauthorized(answer.message)
        case 429:
            return ClusterUnavailable(answer.message)
        case 403 | 422 | 400:
            return Forbidden(answer.message)
        case 404 | 409 | 410:
            return Conflict(answer.message)
        case _:
            return ServerFailed(answer.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer as it came over the wire."""

    status: int
    content: bytes
    date: str
    """The server's Date; empty where it sent none."""


class Link(Protocol):
    """The way to one API server, with our identity there. Both methods raise ClusterUnavailable when no answer comes."""

    async def send(self, method: str, path: str, body: Any, content_type: str, seconds: float) -> Reply:
        """Send one request; every answer is returned."""

    def lines(self, path: str) -> AsyncGenerator[str, None]:
        """Yield the lines of an answer as they arrive, for as long as it takes. Raises what the status asks for."""

    async def close(self) -> None:
        """Close what is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Speaks HTTP to one API server."""

    connection: Link
    may_write: Callable[[], bool] = lambda: True
    """False while we are not the leader: then nothing but reads leaves this process."""
    clock: ServerClock = field(default_factory=ServerClock)
    """The server's, kept by the answers."""
    pace: Pace = field(default_factory=Pace)
    """How long writes take, kept by them."""

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """Read one object or one page."""
        return await self.request("GET", path, query=query)

    async def write(self, method: str, path: str, body: Any, content_type: str = "application/json") -> Answer:
        """Change something. Raises ClusterUnavailable, with nothing sent, while another operator leads."""
        if not self.may_write():
            raise ClusterUnavailable("this operator is not the leader")
        sent = time.monotonic()
        found = await self.request(method, path, body=body, content_type=content_type, seconds=WRITE_SECONDS)
        self.pace.heard(time.monotonic() - sent)
        return found

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        seconds: float = REQUEST_SECONDS,
    ) -> Answer:
        """Send one request. Raises ClusterUnavailable when no answer comes; every answer is returned."""
        sent = time.monotonic()
        reply = await self.connection.send(method, with_query(path, query), body, content_type, seconds)
        self.clock.heard(reply.date, sent, time.monotonic())
        return Answer(status=reply.status, content=reply.content)

    def lines(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[str, None]:
        """Yield the lines of an answer as they arrive, for as long as it takes. Raises what the status asks for."""
        return self.connection.lines(with_query(path, query))

    async def list(self, path: str, selector: str = "") -> tuple[list[dict[str, Any]], str]:
        """Return all objects of a collection and the resourceVersion at which they were so."""
        items: list[dict[str, Any]] = []
        version = ""
        async for page, version in self.pages(path, selector):  # noqa: B007  # the last one counts
            items += page
        return items, version

    async def pages(self, path: str, selector: str = "") -> AsyncIterator[Page]:
        """Yield the objects of a collection page by page, each with the resourceVersion at which all of them were so."""
        query = {"limit": str(PAGE_ITEMS)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = (await self.get(path, query)).expect(200)
            yield page["items"], page["metadata"]["resourceVersion"]
            if not (token := page["metadata"].get("continue")):
                return
            query["continue"] = token
            del page
            await asyncio.sleep(0)


def with_query(path: str, query: Mapping[str, str] | None) -> str:
    """Return a path with its query."""
    return f"{path}?{urlencode(query)}" if query else path


def resource_of(path: str) -> str:
    """Return the resource (and subresource) that an API path names, for metrics: `pods/log`."""
    parts = path.partition("?")[0].strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    return "/".join([*parts[:1], *parts[2:3]]) or "discovery"
