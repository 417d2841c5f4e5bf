"""The few requests that a node makes. Used by every acting module of the process node."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

Raw = dict[str, Any]
"""A Kubernetes object as it travels."""

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

SYNCED = "SYNCED"
"""Pseudo event of `follow`: everything that exists has been told."""

RETRY_SECONDS = 1.0
WATCH_SECONDS = 300
"""A watch is renewed after this time, so that a silent loss of the connection heals."""

logger = logging.getLogger("finetune.node")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said."""

    status: int
    body: Raw

    @property
    def ok(self) -> bool:
        """Whether it did what was asked."""
        return self.status < 300

    @property
    def message(self) -> str:
        """Its own words, for the log."""
        return str(self.body.get("message", self.status))


@dataclass(frozen=True, slots=True)
class Kube:
    """A connection to the API server with the node's certificate."""

    session: aiohttp.ClientSession

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """Read."""
        return await self._send("GET", path, query=query)

    async def create(self, path: str, body: Raw) -> Answer:
        """Create an object in a collection."""
        return await self._send("POST", path, body=body)

    async def patch(self, path: str, body: Raw, kind: str = MERGE) -> Answer:
        """Change an object."""
        return await self._send("PATCH", path, body=body, kind=kind)

    async def delete(self, path: str, body: Raw | None = None) -> Answer:
        """Delete an object."""
        return await self._send("DELETE", path, body=body)

    async def follow(self, path: str, query: Mapping[str, str] | None = None) -> AsyncIterator[tuple[str, Raw]]:
        """Tell what is in a collection and every change, for ever; SYNCED after each listing.

        A lost watch starts again with a listing; what vanished meanwhile is told as DELETED. A collection that does not
        exist (a CRD that is not there yet) is waited for.
        """
        known: dict[str, Raw] = {}
        while True:
            listing = await self.get(path, query)
            if not listing.ok:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            items = {item["metadata"]["uid"]: item for item in listing.body["items"]}
            for uid in known.keys() - items.keys():
                yield "DELETED", known.pop(uid)
            for uid, item in items.items():
                known[uid] = item
                yield "ADDED", item
            yield SYNCED, {}
            async for event, item in self._watch(path, query, listing.body["metadata"]["resourceVersion"]):
                if event == "DELETED":
                    known.pop(item["metadata"]["uid"], None)
                else:
                    known[item["metadata"]["uid"]] = item
                yield event, item

    async def _watch(self, path: str, query: Mapping[str, str] | None, version: str) -> AsyncIterator[tuple[str, Raw]]:
        """Tell changes until the watch ends, for whatever reason."""
        params = {**(query or {}), "watch": "1", "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}
        limit = aiohttp.ClientTimeout(total=None, sock_read=WATCH_SECONDS + 30)
        try:
            async with self.session.get(path, params=params, timeout=limit) as response:
                # an object may be larger than aiohttp's line limit, so lines are put together here
                rest = b""
                async for block in response.content.iter_any():
                    *lines, rest = (rest + block).split(b"\n")
                    for line in lines:
                        event = json.loads(line)
                        if event["type"] not in ("ADDED", "MODIFIED", "DELETED"):
                            return
                        yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            logger.info("watch of %s closed: %s", path, error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Raw | None = None,
        kind: str = "application/json",
    ) -> Answer:
        """Send one request; an API server that cannot be reached answers 503."""
        headers = {"Content-Type": kind}
        data = None if body is None else json.dumps(body)
        try:
            async with self.session.request(method, path, params=query, data=data, headers=headers) as response:
                return Answer(response.status, _parsed(await response.read()))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Answer(503, {"message": f"{method} {path}: {error or type(error).__name__}"})


def _parsed(body: bytes) -> Raw:
    """Read an answer; an unknown API group is refused in plain text."""
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    return data if isinstance(data, dict) else {"message": body.decode(errors="replace")[:500]}


def session(kubeconfig: Path) -> aiohttp.ClientSession:
    """Return an HTTP session with the identity of one of our own kubeconfigs (they are JSON and name files)."""
    config = json.loads(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
    trust.load_cert_chain(user["client-certificate"], user["client-key"])
    connector = aiohttp.TCPConnector(ssl=trust, limit=0)
    return aiohttp.ClientSession(cluster["server"], connector=connector, timeout=aiohttp.ClientTimeout(total=30))
