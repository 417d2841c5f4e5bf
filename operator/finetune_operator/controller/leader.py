"""One writer at a time: a Lease. Called by process. Holding it is what `Api.may_write` asks about."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from finetune_operator.controller import metrics
from finetune_operator.controller.api import Answer, Api
from finetune_operator.controller.events import to_micro_time
from finetune_operator.errors import FinetuneError

log = logging.getLogger(__name__)

LEASE_SECONDS = 15
"""Others may take over after so long without a renewal."""

RENEW_DEADLINE_SECONDS = 10.0
"""We stop writing after so long without a renewal: well before others start."""

RETRY_SECONDS = 2.0
REQUEST_SECONDS = 3.0
"""A busy API server takes seconds. One request that hangs leaves time for another before the deadline."""


@dataclass(slots=True)
class Lease:
    """The Lease and what we know about it.

    * Another's lease has run out when it has not changed for LEASE_SECONDS of *our* clock: clocks may differ.
    * `held` is false RENEW_DEADLINE_SECONDS after the last successful renewal was *sent*, whatever else happens.
    * Every take, renewal and release is fenced by resourceVersion: two candidates cannot both win.
    """

    api: Api
    namespace: str
    name: str
    identity: str
    _renewed: float | None = None
    _released: bool = False
    _observed: tuple[str, float] = ("", 0.0)
    _last: dict[str, Any] | None = None
    """The Lease as we wrote it last: renewed without being read first, which halves what a slow API server costs."""

    @property
    def held(self) -> bool:
        """We may write."""
        return self._renewed is not None and time.monotonic() - self._renewed < RENEW_DEADLINE_SECONDS

    async def acquire(self) -> None:
        """Wait until we lead."""
        while True:
            if await self._try():
                break
            await asyncio.sleep(RETRY_SECONDS)
        metrics.LEADER.set(1)
        log.info("became the leader", extra={"lease": f"{self.namespace}/{self.name}", "identity": self.identity})

    async def keep(self, lost: Callable[[], None]) -> None:
        """Renew until the lease is lost; then call `lost`, which must end the process."""
        while self.held:
            await asyncio.sleep(RETRY_SECONDS)
            if self._released:
                return
            await self._try()
        metrics.LEADER.set(0)
        if not self._released:
            lost()

    async def release(self) -> None:
        """Let the next one take over at once. Failing to is harmless: the lease runs out."""
        if not self.held:
            return
        self._released = True
        try:
            raw = (await self._get()).expect(200)
            if raw["spec"].get("holderIdentity") == self.identity:
                self._renewed = None
                await self._put(raw, {"holderIdentity": "", "leaseDurationSeconds": 1})
        except FinetuneError as error:
            log.warning("leader election Lease could not be released", extra={"error": str(error)})
        metrics.LEADER.set(0)

    async def _try(self) -> bool:
        """Take or renew the lease; tell whether we hold it."""
        sent = time.monotonic()
        try:
            won = await self._renew() or await self._look_and_take()
        except FinetuneError as error:
            log.warning("leader election Lease could not be read or renewed", extra={"error": str(error)})
            return False
        if won:
            self._renewed = sent
        return won

    async def _renew(self) -> bool:
        """Renew what we hold, if nobody has written since: an answer that did not come may still have been a success."""
        last, held = self._last, self._renewed is not None
        return held and last is not None and await self._put(last, {"renewTime": self._now()})

    async def _look_and_take(self) -> bool:
        answer = await self._get()
        return await self._create() if answer.status == 404 else await self._take_or_renew(answer.expect(200))

    async def _take_or_renew(self, raw: dict[str, Any]) -> bool:
        spec = raw.get("spec", {})
        holder = spec.get("holderIdentity") or ""
        if holder == self.identity:
            return await self._put(raw, {"renewTime": self._now()})
        if holder and not self._ran_out(raw["metadata"]["resourceVersion"], spec):
            return False
        took = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": self._now(),
            "renewTime": self._now(),
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1,
        }
        return await self._put(raw, took)

    def _ran_out(self, version: str, spec: dict[str, Any]) -> bool:
        if self._observed[0] != version:
            self._observed = (version, time.monotonic())
        return time.monotonic() - self._observed[1] > int(spec.get("leaseDurationSeconds") or LEASE_SECONDS)

    async def _get(self) -> Answer:
        return await self.api.request("GET", f"{self._collection}/{self.name}", seconds=REQUEST_SECONDS)

    async def _create(self) -> bool:
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": self._now(),
            "renewTime": self._now(),
            "leaseTransitions": 0,
        }
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        }
        answer = await self.api.request("POST", self._collection, body=body, seconds=REQUEST_SECONDS)
        return answer.status != 409 and bool(answer.expect(201))

    async def _put(self, raw: dict[str, Any], change: dict[str, Any]) -> bool:
        body = raw | {"spec": raw.get("spec", {}) | change}
        path = f"{self._collection}/{self.name}"
        answer = await self.api.request("PUT", path, body=body, seconds=REQUEST_SECONDS)
        self._last = None if answer.status in (404, 409) else answer.expect(200)
        return self._last is not None

    @property
    def _collection(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    def _now(self) -> str:
        return to_micro_time(datetime.now(UTC))
