"""Answer `kubectl logs` as a kubelet does. The API server dials in with its kubelet client certificate."""

import asyncio
import collections
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web

from finetune_operator.local.node.containers import Container
from finetune_operator.local.ports import HOST
from finetune_operator.local.state import ClusterState

POLL_SECONDS = 0.1
STAMP_LENGTH = len("2026-01-01T00:00:00.000000000Z")

Find = Callable[[str, str, str], Container | None]
"""Finds a container by namespace, Pod and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """What was asked for."""

    follow: bool
    tail: int | None
    since: str
    """Stamp of the first line; empty: from the beginning."""
    limit: int | None
    """Bytes."""
    timestamps: bool


async def serve_logs(state: ClusterState, port: int, find: Find) -> web.AppRunner:
    """Start the HTTPS server of the node; only certificates of the cluster's authority get in."""

    async def container_logs(request: web.Request) -> web.StreamResponse:
        names = request.match_info
        container = find(names["namespace"], names["pod"], names["container"])
        if container is None:
            return web.Response(status=404, text=f'container "{names["container"]}" in pod "{names["pod"]}" not found')
        if not container.began:
            text = f'container "{names["container"]}" in pod "{names["pod"]}" is waiting to start: ContainerCreating'
            return web.Response(status=400, text=text)
        return await _stream(request, container, log_query(request.query))

    application = web.Application()
    application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", container_logs)
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=state.pki / "ca.crt")
    trust.verify_mode = ssl.CERT_REQUIRED
    trust.load_cert_chain(state.pki / "kubelet.crt", state.pki / "kubelet.key")
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, HOST, port, ssl_context=trust).start()
    return runner


def log_query(query: Mapping[str, str]) -> LogQuery:
    """Read the parameters of a log request."""
    since = ""
    if moment := query.get("sinceTime"):
        since = _stamp(datetime.fromisoformat(moment))
    elif seconds := query.get("sinceSeconds"):
        since = _stamp(datetime.now(UTC) - timedelta(seconds=int(seconds)))
    return LogQuery(
        follow=query.get("follow") == "true",
        tail=int(query["tailLines"]) if "tailLines" in query else None,
        since=since,
        limit=int(query["limitBytes"]) if "limitBytes" in query else None,
        timestamps=query.get("timestamps") == "true",
    )


def log_tail(path: Path, *, lines: int) -> bytes:
    """Return the last lines of a container's output."""
    if not path.exists():
        return b""
    kept = collections.deque(_records(path.read_bytes()), maxlen=lines)
    return b"".join(_text(record, timestamps=False) for record in kept)


def select(records: Iterator[bytes], query: LogQuery) -> Iterator[bytes]:
    """Return the output that was asked for out of what is there now."""
    since = query.since.encode()
    wanted = (record for record in records if record[:STAMP_LENGTH] >= since)
    chosen = wanted if query.tail is None else iter(collections.deque(wanted, maxlen=query.tail))
    return (_text(record, timestamps=query.timestamps) for record in chosen)


async def _stream(request: web.Request, container: Container, query: LogQuery) -> web.StreamResponse:
    """Send the output, and what follows until the container has ended."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    sender = Sender(response, query.limit)
    position = 0
    chosen = query
    while True:
        over = container.state().phase == "terminated"  # looked at first: what was written before it is then all there
        data = _whole_lines(container.log, position)
        position += len(data)
        if not await sender.send(b"".join(select(_records(data), chosen))) or not query.follow or over:
            break
        chosen = LogQuery(follow=True, tail=None, since=query.since, limit=None, timestamps=query.timestamps)
        await asyncio.sleep(POLL_SECONDS)
    await response.write_eof()
    return response


@dataclass(slots=True)
class Sender:
    """Counts the bytes that may still be sent."""

    response: web.StreamResponse
    left: int | None

    async def send(self, data: bytes) -> bool:
        """Send, and say whether more may follow."""
        if self.left is not None:
            data = data[: self.left]
            self.left -= len(data)
        if data:
            await self.response.write(data)
        return self.left is None or self.left > 0


def _whole_lines(path: Path, position: int) -> bytes:
    """Return the records written since a position; a half one is left for the next look."""
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(position)
        data = file.read()
    return data[: data.rfind(b"\n") + 1]


def _records(data: bytes) -> Iterator[bytes]:
    """Split a log into records: STAMP F|P TEXT."""
    return iter(data.split(b"\n")[:-1])


def _text(record: bytes, *, timestamps: bool) -> bytes:
    """Return the output that a record holds: F ends a line, P does not."""
    full = record[STAMP_LENGTH + 1 : STAMP_LENGTH + 2] == b"F"
    text = record[STAMP_LENGTH + 3 :] + (b"\n" if full else b"")
    return record[:STAMP_LENGTH] + b" " + text if timestamps else text


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
