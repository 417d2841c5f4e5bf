"""A proxy between operator and API server that counts requests and breaks things on purpose."""

import asyncio
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from kubernetes import config

from tests.cluster.client import eventually

HOP_HEADERS = {"host", "connection", "transfer-encoding", "content-length", "content-encoding", "accept-encoding"}

WATCHED = {"finetunejobs", "gpupools", "pods", "services"}
"""What every operator watches."""

Call = tuple[str, str]
"""(method, path)"""


COLLECTIONS = ("finetunejobs", "gpupools", "pods", "services", "nodes", "events")
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Refusal:
    """An answer instead of the API server's; status 0: the connection is cut without one."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


def verb_of(request: web.Request) -> str:
    """Return what Kubernetes calls a request: get, list, watch, create, update, patch or delete."""
    if request.method != "GET":
        return VERBS[request.method]
    if "watch=true" in request.query_string:
        return "watch"
    return "list" if request.path.endswith(COLLECTIONS) else "get"


def is_write(call: Call) -> bool:
    """Leases and events are left out: neither is part of what a job becomes."""
    return call[0] != "GET" and "/leases" not in call[1] and "/events" not in call[1]


@dataclass
class FaultProxy:
    """Speaks plain HTTP to the operator and TLS, as administrator, to the API server."""

    kubeconfig: Path
    """Of the real API server."""
    folder: Path
    calls: list[Call] = field(default_factory=list)
    """Every request, in order."""
    answers: list[tuple[Call, int]] = field(default_factory=list)
    """Every forwarded request and the status of its answer."""
    answer_instead: Callable[[Call], int | None] = lambda _: None
    """HTTP status to answer a request with, None: forward it."""
    around_write: Callable[[int, str], bool] = lambda *_: True
    """Called with (number of the write, "before" | "after") around forwarding; False before it: the write is lost."""
    drop_event: Callable[[dict[str, Any]], bool] = lambda _: False
    """Tells which watch events never reach the operator."""
    refusal: Callable[[str, str], Refusal | None] = lambda *_: None
    """Called with (verb, path): what to answer instead, None: forward it."""
    delays: Callable[[dict[str, Any]], tuple[float, ...]] = lambda _: (0,)
    """After how many seconds a watch event is sent: once for each, so that (0, 1) is a late copy."""
    listed: Callable[[str, bytes], bytes] = lambda _, content: content
    """Called with the path, query included, and the answer of a list: what the operator gets."""
    lag: Callable[[Call], float] = lambda _: 0.0
    """How many seconds longer a request takes."""
    port: int = 0
    _streams: set[Any] = field(default_factory=set)
    _responses: dict[Any, str] = field(default_factory=dict)
    """The watches that are open -> their paths."""
    _late: set[Any] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None
    _site: web.TCPSite | None = None
    _runner: web.AppRunner | None = None
    _upstream: aiohttp.ClientSession | None = None
    _server: str = ""

    def start(self) -> None:
        """Listen on a free port of the loopback."""
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._start())

    def stop(self) -> None:
        """End everything."""
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        assert self._thread is not None
        self._thread.join(timeout=10)
        self._loop.close()

    def refuse(self) -> None:
        """Stop listening and cut all connections: the API server is away."""
        self._do(self._refuse())

    def listen(self) -> None:
        """Listen again, on the same port."""
        self._do(self._listen())

    def send_error(self, status: dict[str, Any], of: str = "") -> None:
        """Send an ERROR event into all watch streams, or those of a kind: with code 410 the operator has to list anew."""
        self._do(self._send_error(status, of))

    def wait_for_watches(self) -> None:
        """Wait until the operator watches: its first comparison may be done before."""
        eventually(lambda: self._watched() >= WATCHED, "the watches are established")

    def _watched(self) -> set[str]:
        return {path.rsplit("/", 1)[-1] for path in list(self._responses.values())}

    @property
    def writes(self) -> list[Call]:
        """Requests that change a job, a pool or a child."""
        return [call for call in self.calls if is_write(call)]

    @property
    def operator_kubeconfig(self) -> Path:
        """A kubeconfig that leads here."""
        path = self.folder / "through-proxy.conf"
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        users = [{"name": "u", "user": {}}]
        conf = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster], "users": users}
        path.write_text(json.dumps(conf | {"contexts": [context]}))
        return path

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=20)

    async def _start(self) -> None:
        configuration = config.new_client_from_config(str(self.kubeconfig), persist_config=False).configuration
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
        self._server = configuration.host
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        self._upstream = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        app = web.Application(client_max_size=16 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen()

    async def _listen(self) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    async def _refuse(self) -> None:
        assert self._site is not None
        assert self._runner is not None
        await self._site.stop()
        await self._cut()
        assert self._runner.server is not None
        for connection in list(self._runner.server.connections):
            if connection.transport is not None:
                connection.transport.close()

    async def _cut(self) -> None:
        for stream in list(self._streams):
            stream.close()

    async def _send_error(self, status: dict[str, Any], of: str) -> None:
        for response in [each for each, path in self._responses.items() if path.endswith(of)]:
            await response.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")

    async def _stop(self) -> None:
        assert self._runner is not None
        assert self._upstream is not None
        await self._cut()
        await self._runner.cleanup()
        await self._upstream.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._abort_what_is_left()

    async def _abort_what_is_left(self) -> None:
        """End the connections that their owners have forgotten: half made ones of a killed operator, TLS that says goodbye."""
        transports = self._loop._transports  # only the loop knows them all; a socket that outlives it is a warning
        while left := [transport for transport in list(transports.values()) if transport._sock is not None]:
            for transport in left:
                transport.abort()
            await asyncio.sleep(0)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = (request.method, request.path)
        self.calls.append(call)
        number = len(self.writes)
        await asyncio.sleep(self.lag(call))
        if (status := self.answer_instead(call)) is not None:
            return fault(Refusal(status))
        verb = verb_of(request)
        if (refusal := self.refusal(verb, request.path)) is not None:
            if refusal.status == 0:
                assert request.transport is not None
                request.transport.close()
            return fault(refusal)
        if is_write(call) and not self.around_write(number, "before"):
            return web.Response(status=500)
        body = await request.read()
        headers = {key: value for key, value in request.headers.items() if key.lower() not in HOP_HEADERS}
        assert self._upstream is not None
        url = f"{self._server}{request.raw_path}"
        upstream = await self._upstream.request(request.method, url, data=body or None, headers=headers)
        self.answers.append((call, upstream.status))
        if is_write(call):
            self.around_write(number, "after")
        try:
            if verb == "watch":
                return await self._stream(request, upstream)
            content = await upstream.read()
            if verb == "list" and upstream.status == 200:
                content = self.listed(request.path_qs, content)
        finally:
            upstream.close()
        kind = upstream.headers.get("Content-Type", "application/json")
        return web.Response(status=upstream.status, body=content, headers={"Content-Type": kind})

    async def _stream(self, request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=upstream.status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self._streams.add(upstream)
        self._responses[response] = request.path
        try:
            async for line in upstream.content:
                if upstream.status != 200:
                    await response.write(line)
                elif not self.drop_event(event := json.loads(line)):
                    await self._send(response, line, self.delays(event))
        except (aiohttp.ClientError, ConnectionError):
            pass
        finally:
            self._streams.discard(upstream)
            self._responses.pop(response, None)
            upstream.close()
        return response

    async def _send(self, response: web.StreamResponse, line: bytes, delays: tuple[float, ...]) -> None:
        for seconds in delays:
            if seconds:
                self._loop.call_later(seconds, self._send_late, response, line)
            else:
                await response.write(line)

    def _send_late(self, response: web.StreamResponse, line: bytes) -> None:
        """Send a line into a stream that may have ended meanwhile."""
        if response in self._responses:
            task = self._loop.create_task(response.write(line))
            self._late.add(task)
            task.add_done_callback(lambda done: (self._late.discard(done), done.cancelled() or done.exception()))


def fault(refusal: Refusal) -> web.Response:
    """Return an answer that the API server might give."""
    status = {"kind": "Status", "message": f"fault {refusal.status}", "code": refusal.status}
    return web.json_response(status, status=refusal.status or 500, headers=dict(refusal.headers))
