"""A real HTTP server that answers as an API server would, from a script, and writes down what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from finetune_operator.controller.connection import Connection, connection_to
from kubernetes.aio.client import Configuration

Raw = dict[str, Any]
Reply = tuple[int, Any]
"""Status, and a body: JSON, or text as it is."""


@dataclass
class Scripted:
    """`replies` maps `METHOD path` to what comes back, or to a function of the request's body; else 404."""

    replies: dict[str, Reply | Callable[[Any], Reply]] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        call = f"{request.method} {request.path}"
        body = await request.json() if request.can_read_body else None
        self.asked.append((call, body))
        reply = self.replies.get(call, (404, {"message": "not in the script"}))
        status, said = reply(body) if callable(reply) else reply
        return (
            web.Response(status=status, text=said) if isinstance(said, str) else web.json_response(said, status=status)
        )

    def bodies(self, call: str) -> list[Any]:
        """Return the bodies of the requests to a path."""
        return [body for asked, body in self.asked if asked == call]


async def until(question: Callable[[], Any]) -> None:
    """Let the event loop go on until the answer is yes, for ten seconds at most."""
    async with asyncio.timeout(10):
        while not question():  # noqa: ASYNC110  # of many kinds of state, none of which is an Event
            await asyncio.sleep(0)


@asynccontextmanager
async def scripted(**replies: Any) -> AsyncIterator[tuple[Scripted, Connection]]:
    """Serve a script; yield it and a connection to it."""
    script, app = Scripted(**replies), web.Application()
    app.router.add_route("*", "/{path:.*}", script.answer)
    async with served(app) as connection:
        yield script, connection


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[Connection]:
    """Serve on a free port; yield a connection to it."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    connection = connection_to(configuration, kubeconfig="", context="")
    try:
        yield connection
    finally:
        await connection.close()
        await runner.cleanup()
