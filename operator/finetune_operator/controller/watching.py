"""One kind as it changes, by a watch of our own: each line of the API server's goes to the store without a detour.

kopf watches our own kinds. It makes a task, three loggers and a patch for each event, and two thirds of a job's events are
about its Pods. Called by handlers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from finetune_operator.controller.api import Api
from finetune_operator.controller.resync import selector
from finetune_operator.controller.stored import Kind, collection
from finetune_operator.errors import ClusterUnavailable, FinetuneError, ServerFailed, Unauthorized

log = logging.getLogger(__name__)

Heard = Callable[[Kind, str | None, dict[str, Any]], None]
"""Called with kind, event type (None: from a list) and object."""

SERVER_SECONDS = 290
"""After so long the API server ends a watch by itself."""

LONGEST_SECONDS = 300.0
"""A watch that has not ended by then is one of which the other end is gone."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 5.0
"""Before a watch begins again; doubled while that fails."""

OUTAGE_SECONDS = 300.0
"""What fails for so long ends the process, non-zero."""

CHANGES = ("ADDED", "MODIFIED", "DELETED")


class ListAgainError(Exception):
    """The watch cannot go on from where it was."""


@dataclass(slots=True)
class Watch:
    """A list, and what changes after it, for ever: the lines may be cut, come twice, late or not at all.

    * What was heard is newer than the list, or newer than what was heard before: nothing in between is lost.
    * Where the API server no longer knows what came in between, or fails, everything is listed again.
    """

    api: Api
    kind: Kind
    namespace: str
    """Empty: everywhere."""
    heard: Heard
    renewed: Callable[[], Awaitable[object]]
    """Reads the credentials again and waits until the API server takes them."""
    _version: int = 0
    """The newest resourceVersion that was heard of; 0: nothing is known."""
    _heard_at: float = 0.0

    async def run(self) -> None:
        """Watch until cancelled. Raises what has failed for five minutes."""
        loop = asyncio.get_running_loop()
        pause, self._heard_at = FIRST_PAUSE_SECONDS, loop.time()
        while True:
            before = self._heard_at
            try:
                await self._once()
            except Unauthorized:
                await self.renewed()
            except (FinetuneError, ListAgainError, ValueError) as error:  # ValueError: a line that was cut
                if loop.time() - self._heard_at > OUTAGE_SECONDS:
                    raise
                log.debug(
                    "a watch ended; retrying", extra={"kind": self.kind, "namespace": self.namespace, "why": str(error)}
                )
                self._version = self._version if may_go_on(error) else 0
            pause = FIRST_PAUSE_SECONDS if self._heard_at > before else min(2 * pause, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    async def _once(self) -> None:
        if not self._version:
            await self._list()
        query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(SERVER_SECONDS)}
        query |= {"resourceVersion": str(self._version)} | (
            {"labelSelector": chosen} if (chosen := selector(self.kind)) else {}
        )
        try:
            async with (
                asyncio.timeout(LONGEST_SECONDS),
                aclosing(self.api.lines(collection(self.kind, self.namespace), query)) as lines,
            ):
                async for line in lines:
                    self._take(orjson.loads(line))
        except TimeoutError:
            log.debug("a watch was silent for too long", extra={"kind": self.kind, "namespace": self.namespace})

    async def _list(self) -> None:
        version = "0"
        async for page, version in self.api.pages(collection(self.kind, self.namespace), selector(self.kind)):  # noqa: B007
            for raw in page:
                self.heard(self.kind, None, raw)
        self._version = int(version)
        self._heard_at = asyncio.get_running_loop().time()

    def _take(self, event: dict[str, Any]) -> None:
        change, raw = event["type"], event["object"]
        if change == "ERROR":
            raise ListAgainError(raw.get("message", ""))
        self._version = max(self._version, int(raw["metadata"]["resourceVersion"]))
        self._heard_at = asyncio.get_running_loop().time()
        if change in CHANGES:
            self.heard(self.kind, change, raw)


def may_go_on(error: Exception) -> bool:
    """Tell whether a watch can begin where it ended: nothing was answered, or that there is too much to do."""
    return isinstance(error, ValueError) or (
        isinstance(error, ClusterUnavailable) and not isinstance(error, ServerFailed)
    )
