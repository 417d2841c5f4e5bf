"""The commands' way to the API server: h11 on asyncio's streams, loaded in milliseconds. Called by jobs.

What is rare goes through the client library instead: an auth-provider, a proxy that is not HTTP.
"""

import asyncio
import json
import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import h11

from finetune_operator import __version__
from finetune_operator.cli.kube_credentials import Credentials, credentials_of, trust_of
from finetune_operator.cli.kubeconfig import Context, Entry, context_of_pod, read_kubeconfig
from finetune_operator.controller.api import CONNECT_SECONDS, Answer, Link, Reply, failure
from finetune_operator.controller.proxies import checked_proxy, environment_proxy
from finetune_operator.controller.unreachable import unreached
from finetune_operator.errors import ClusterUnavailable

USER_AGENT = f"finetune/{__version__}"
"""Its first word is the field manager that the API server notes with each write: a person's command, not the operator."""

BLOCK = 1 << 16
NO_ANSWER = (OSError, EOFError, TimeoutError, h11.RemoteProtocolError)


async def open_link(kubeconfig: str, context: str, *, token: str = "") -> tuple[Link, str]:
    """Return the way to the API server and the namespace of the context. Raises ClusterUnavailable.

    With a token it is used for everything, whatever the kubeconfig or the Pod says about who we are.
    """
    chosen = read_kubeconfig(kubeconfig).context(context) if kubeconfig else context_of_pod()
    if token:
        chosen = replace(chosen, user=Entry({"token": token}, chosen.user.folder))
    proxy = proxy_of(chosen)
    if proxy and urlsplit(proxy).scheme != "http" and token:
        raise chosen.broken("a proxy that is reached over TLS cannot be used here: name an http:// one")
    if "auth-provider" in chosen.user.value or (proxy and urlsplit(proxy).scheme != "http"):
        return await _library(kubeconfig, context), chosen.namespace
    link = KubeLink(context=chosen, server=urlsplit(str(chosen.cluster.value["server"]).rstrip("/")), proxy=proxy)
    await link.log_in()
    return link, chosen.namespace


async def _library(kubeconfig: str, context: str) -> Link:
    from finetune_operator.controller.connection import connect  # noqa: PLC0415  # takes longer to load than most commands run

    return await connect(kubeconfig, context)


def proxy_of(context: Context) -> str:
    """Return the proxy that the kubeconfig names, or else the environment; empty without one."""
    if named := context.cluster.value.get("proxy-url"):
        return checked_proxy(str(named))
    return checked_proxy(environment_proxy(str(context.cluster.value["server"])))


@dataclass(slots=True)
class Wire:
    """One open connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    state: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))

    async def ask(self, request: h11.Request, body: bytes) -> h11.Response:
        """Send a request and return the head of its answer."""
        parts = (request, *([h11.Data(data=body)] if body else []), h11.EndOfMessage())
        self.writer.write(b"".join(self.state.send(part) or b"" for part in parts))
        await self.writer.drain()
        while not isinstance(event := await self.event(), h11.Response):
            pass  # 1xx
        return event

    async def exchange(self, request: h11.Request, body: bytes) -> tuple["Wire", h11.Response, bytes]:
        """Send a request and read the whole answer; a connection on which that fails is closed."""
        try:
            head = await self.ask(request, body)
            return self, head, b"".join([block async for block in self.blocks()])
        except BaseException:
            self.close()
            raise

    async def event(self) -> Any:
        """Return the next part of the answer."""
        while (event := self.state.next_event()) is h11.NEED_DATA:
            data = await self.reader.read(BLOCK)
            if not data and self.state.their_state is h11.SEND_RESPONSE:
                raise EOFError
            self.state.receive_data(data)
        return event

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the body of the answer as it arrives."""
        while isinstance(event := await self.event(), h11.Data):
            yield bytes(event.data)

    async def lines(self, request: h11.Request) -> AsyncIterator[str]:
        """Send a request and yield the lines of its answer. Raises what its status asks for."""
        head = await self.ask(request, b"")
        if head.status_code != 200:
            raise failure(Answer(status=head.status_code, content=b"".join([block async for block in self.blocks()])))
        rest = b""
        async for block in self.blocks():
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")

    async def pass_on(self, trust: ssl.SSLContext | None, name: str) -> None:
        """Speak to the server from here on: the proxy has connected us."""
        if trust is not None:
            await self.writer.start_tls(trust, server_hostname=name)
        self.state = h11.Connection(h11.CLIENT)

    def close(self) -> None:
        """Close it at once."""
        self.writer.transport.abort()


@dataclass(slots=True, kw_only=True)
class KubeLink:
    """The way to one API server with the identity of a context."""

    context: Context
    server: SplitResult
    proxy: str
    _shown: Credentials = field(default_factory=Credentials)
    _trust: ssl.SSLContext | None = None
    _idle: list[Wire] = field(default_factory=list)

    async def log_in(self) -> None:
        """Find out who we are, anew: a token may have been rotated or may have expired."""
        self._shown = await credentials_of(self.context)
        self._trust = trust_of(self.context, self._shown) if self.server.scheme == "https" else None

    async def send(self, method: str, path: str, body: Any, content_type: str, seconds: float) -> Reply:
        """Send one request; every answer is returned. Raises ClusterUnavailable when no answer comes."""
        reply = await self._exchange(method, path, body, content_type, seconds)
        if reply.status != 401:
            return reply
        await self.close()
        await self.log_in()
        return await self._exchange(method, path, body, content_type, seconds)

    async def _exchange(self, method: str, path: str, body: Any, content_type: str, seconds: float) -> Reply:
        data = b"" if body is None else json.dumps(body).encode()
        request = self._request(method, path, content_type, len(data))
        try:
            async with asyncio.timeout(seconds):
                wire, head, content = await self._asked(request, data)
        except NO_ANSWER as error:
            raise self._unreached(error, seconds) from error
        self._keep(wire)
        date = next((value.decode() for name, value in head.headers if name == b"date"), "")
        return Reply(status=head.status_code, content=content, date=date)

    async def _asked(self, request: h11.Request, data: bytes) -> tuple[Wire, h11.Response, bytes]:
        """Send a request. A read may use an idle connection, which the server may have closed meanwhile; a write may not."""
        if self._idle and request.method == b"GET":
            with suppress(OSError, EOFError, h11.RemoteProtocolError):
                return await self._idle.pop().exchange(request, data)
        return await (await self._connected()).exchange(request, data)

    async def lines(self, path: str) -> AsyncGenerator[str, None]:
        """Yield the lines of an answer as they arrive, for as long as it takes. Raises what the status asks for."""
        try:
            wire = await self._connected()
            try:
                async for line in wire.lines(self._request("GET", path, "application/json", 0)):
                    yield line
            finally:
                wire.close()
        except NO_ANSWER as error:
            raise self._unreached(error, CONNECT_SECONDS) from error

    async def close(self) -> None:
        """Close what is open."""
        while self._idle:
            self._idle.pop().close()
        await asyncio.sleep(0)

    def _keep(self, wire: Wire) -> None:
        if wire.state.our_state is not h11.DONE or wire.state.their_state is not h11.DONE:
            wire.close()
            return
        wire.state.start_next_cycle()
        self._idle.append(wire)

    def _request(self, method: str, path: str, content_type: str, length: int) -> h11.Request:
        headers = [
            ("Host", self.server.netloc),
            ("User-Agent", USER_AGENT),
            ("Accept", "application/json, */*"),
            ("Content-Type", content_type),
        ]
        headers += [("Content-Length", str(length))] if length else []
        headers += [("Authorization", self._shown.authorization)] if self._shown.authorization else []
        return h11.Request(method=method, target=self.server.path + path, headers=headers)

    async def _connected(self) -> Wire:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await (self._through_proxy() if self.proxy else self._direct())
        except TimeoutError as error:
            raise self._unreached(error, CONNECT_SECONDS) from error

    async def _direct(self) -> Wire:
        secure = self._trust is not None
        return Wire(
            *await asyncio.open_connection(
                self.server.hostname,
                self.server.port or (443 if secure else 80),
                ssl=self._trust,
                server_hostname=self._name if secure else None,
            )
        )

    async def _through_proxy(self) -> Wire:
        """Let the proxy connect us; who we are there is a part of its URL."""
        way = urlsplit(self.proxy)
        wire = Wire(*await asyncio.open_connection(way.hostname, way.port or 80))
        login = f"{unquote(way.username or '')}:{unquote(way.password or '')}".encode()
        said = [("Proxy-Authorization", f"Basic {b64encode(login).decode()}")] if way.username else []
        target = f"{self.server.hostname}:{self.server.port or (443 if self._trust else 80)}"
        head = await wire.ask(h11.Request(method="CONNECT", target=target, headers=[("Host", target), *said]), b"")
        if head.status_code != 200:
            raise ClusterUnavailable(
                f"the proxy {way.hostname}:{way.port or 80} refuses to connect to {target} (HTTP {head.status_code})"
            )
        await wire.pass_on(self._trust, self._name)
        return wire

    @property
    def _name(self) -> str:
        """The name that the server's certificate must have."""
        return str(self.context.cluster.value.get("tls-server-name") or self.server.hostname or "")

    def _unreached(self, error: Exception, seconds: float) -> ClusterUnavailable:
        cause = EOFError() if isinstance(error, h11.RemoteProtocolError) else error
        return ClusterUnavailable(unreached(self.server.geturl(), cause, seconds, proxy=self.proxy))
