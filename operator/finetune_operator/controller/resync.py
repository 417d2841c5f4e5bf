"""LIST and compare: cures what a watch missed, first of all deletions during a gap. Called by process."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from finetune_operator.controller import metrics
from finetune_operator.controller.api import Answer, Api
from finetune_operator.controller.namespaces import Namespaces
from finetune_operator.controller.store import Store
from finetune_operator.controller.stored import POLICY_KINDS, QUOTA_KINDS, Kind, Stored, collection, stored
from finetune_operator.errors import Conflict, FinetuneError, Forbidden
from finetune_operator.manifests.names import JOB_UID_LABEL

log = logging.getLogger(__name__)

OUR_CHILDREN = JOB_UID_LABEL
"""Label that every child has; the watches select by it too."""

GAP_SECONDS = 1.0
"""How long after a gap we compare: the re-list of one watch brings a burst of hints."""


PROBE_SECONDS = 15.0
"""Between two tries of a namespace: one small request per kind."""

LAG_SECONDS, LOOKS_AGAIN = 1.0, 3
"""Before a list that is older than the last one is asked for again, and how often: an API server that lags catches up, a store that
was restored stays as it is."""

UNREADABLE = (403, 404)
CLUSTER_KINDS: tuple[Kind, ...] = ("GPUPool",)
KINDS_OF_NAMESPACES: tuple[Kind, ...] = ("FineTuneJob", *POLICY_KINDS, "Pod", "Service")
KINDS_EVERYWHERE: tuple[Kind, ...] = (*CLUSTER_KINDS, *KINDS_OF_NAMESPACES)

NO_QUOTAS = "quotas cannot be read: jobs are planned without them, and their Pods wait where one is exceeded"
NO_POLICIES = "the API server does not serve FineTunePolicies, so that none limits a job: run `kubectl apply --server-side -f crds/`"

RETRY_SECONDS = 15.0
"""A comparison that failed is tried again after so long: a gap leaves deletions unseen until one succeeds."""


def is_unserved(kind: Kind, answer: Answer) -> bool:
    """Tell whether a list says that the API server does not know a kind that we can do without."""
    return kind in POLICY_KINDS and answer.status == 404


def selector(kind: Kind) -> str:
    """Return the label selector for a kind: our children only."""
    return OUR_CHILDREN if kind in ("Pod", "Service") else ""


@dataclass(slots=True)
class Resync:
    """Compares the store with the API server and hands every difference to `changed`."""

    api: Api
    store: Store
    namespaces: Namespaces
    interval_seconds: float
    changed: Callable[[Stored], None]
    """Called with an object that is new or newer."""
    gone: Callable[[str], None]
    """Called with the uid of an object that no longer exists."""
    lag_seconds: float = LAG_SECONDS
    behind_since: dict[Kind, float] = field(default_factory=dict)
    """Kind -> when we found that its watch had missed a change; cleared by the watch's next event."""
    last_success: float | None = None
    """time.monotonic() of the last complete comparison."""
    _versions: dict[tuple[Kind, str], int] = field(default_factory=dict)
    """Kind and namespace -> resourceVersion of the newest list."""
    _unreadable: set[tuple[Kind, str]] = field(default_factory=set)
    """What is done without, by kind and namespace: said once."""
    _hint: asyncio.Event = field(default_factory=asyncio.Event)

    def heard(self, kind: Kind) -> None:
        """Note that the watch of a kind brought something."""
        self.behind_since.pop(kind, None)
        metrics.LAST_EVENT.labels(kind).set(time.time())

    def soon(self) -> None:
        """Ask for a comparison: a watch has begun anew, so deletions may have been missed."""
        self._hint.set()

    async def run(self) -> None:
        """Compare for ever: every interval (jittered) and soon after a hint. A failure is logged and tried again."""
        while True:
            wait = self.interval_seconds * random.uniform(0.8, 1.2)  # noqa: S311  # spreads load; nothing secret
            try:
                async with asyncio.timeout(wait):
                    await self._hint.wait()
                await asyncio.sleep(min(GAP_SECONDS, wait))
            except TimeoutError:
                pass
            self._hint.clear()
            if not await self._tried():
                await asyncio.sleep(min(RETRY_SECONDS, wait))
                self._hint.set()  # what was asked for is still to be done

    async def _tried(self) -> bool:
        try:
            await self.once()
        except FinetuneError as error:
            log.warning("full comparison with the API server failed; retrying", extra={"error": str(error)})
        except Exception:  # the next comparison may fare better; /healthz fails when none does
            log.exception("full comparison with the API server failed; retrying")
        else:
            return True
        return False

    async def once(self) -> None:
        """Compare all kinds once, namespace by namespace. One that cannot be read is skipped: the others are served."""
        for scope in self.namespaces.scopes():
            await self._scope(scope)
        self.last_success = time.monotonic()

    async def retry(self) -> None:
        """Try each namespace now and then, for ever: one that can be read again is taken in, one that cannot is skipped."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            for namespace in self.namespaces.configured:
                try:
                    await self.probe(namespace)
                except FinetuneError as error:
                    log.debug("namespace could not be tried", extra={"namespace": namespace, "error": str(error)})

    async def probe(self, namespace: str) -> bool:
        """Tell whether a namespace can be read; skip it, or take it in again, accordingly."""
        if not self.namespaces.serves(namespace):
            return await self._scope(namespace)
        for kind in KINDS_OF_NAMESPACES:
            answer = await self.api.get(collection(kind, namespace), {"limit": "1"})
            if answer.status in UNREADABLE and not is_unserved(kind, answer):
                await self._skip(namespace, answer.message)
                return False
        return True

    async def _scope(self, namespace: str) -> bool:
        """Compare one namespace, or what belongs to none; tell whether it could be read."""
        everywhere = not self.namespaces.configured
        kinds = KINDS_OF_NAMESPACES if namespace else KINDS_EVERYWHERE if everywhere else CLUSTER_KINDS
        if namespace or everywhere:
            await self._quotas(namespace)  # before the jobs: none is planned without what bounds it
        lists = {}
        for kind in kinds:  # children after the jobs: no job is seen without what it already had
            try:
                if kind in POLICY_KINDS and is_unserved(
                    kind, await self.api.get(collection(kind, namespace), {"limit": "1"})
                ):
                    self._do_without(kind, namespace, NO_POLICIES)
                    continue
                self._unreadable.discard((kind, namespace))
                lists[kind] = await self._listed(kind, namespace)
            except (Forbidden, Conflict) as error:
                if not namespace:
                    raise
                await self._skip(namespace, str(error))
                return False
        again = bool(namespace) and await self.namespaces.accept(namespace)
        for kind in reversed(lists):  # taken in before the jobs: a pass must not miss them
            self._compare(kind, namespace, *lists[kind])
        return not again or self._begin(namespace)

    async def _quotas(self, namespace: str) -> None:
        """Compare the quotas of a namespace. Where they may not be read, jobs are planned without them."""
        for kind in QUOTA_KINDS:
            try:
                found = await self._listed(kind, namespace)
            except (Forbidden, Conflict) as error:
                self._do_without(kind, namespace, NO_QUOTAS, str(error))
                continue
            self._unreadable.discard((kind, namespace))
            self._compare(kind, namespace, *found)

    def _do_without(self, kind: Kind, namespace: str, told: str, why: str = "") -> None:
        for each in self.store.of_kind(kind):
            if not namespace or each.namespace == namespace:
                self.gone(each.uid)
        if (kind, namespace) not in self._unreadable:
            self._unreadable.add((kind, namespace))
            log.warning(told, extra={"kind": kind, "namespace": namespace or "all"} | ({"why": why} if why else {}))

    async def _listed(self, kind: Kind, namespace: str) -> tuple[list[Stored], int]:
        """List a kind; one that is older than the last list is listed again: one of several API servers may lag behind."""
        found, version = await self._pages(kind, namespace)
        for _ in range(LOOKS_AGAIN):
            if version >= self._versions.get((kind, namespace), 0):
                break
            await asyncio.sleep(self.lag_seconds)
            found, version = await self._pages(kind, namespace)
        return found, version

    async def _pages(self, kind: Kind, namespace: str) -> tuple[list[Stored], int]:
        """Return what there is of a kind, and the version of that list. Each page is reduced as it comes."""
        found: list[Stored] = []
        version = "0"
        async for page, version in self.api.pages(collection(kind, namespace), selector(kind)):  # noqa: B007  # the last one
            found += (self._reduced(kind, raw) for raw in page)
        return found, int(version)

    def _reduced(self, kind: Kind, raw: dict[str, Any]) -> Stored:
        known = self.store.get(str(raw["metadata"]["uid"]))
        same = known is not None and known.version == int(raw["metadata"]["resourceVersion"])
        return known if known is not None and same else stored(kind, raw)

    async def _skip(self, namespace: str, why: str) -> None:
        self.store.forget_namespace(namespace)
        await self.namespaces.skip(namespace, why)

    def _begin(self, namespace: str) -> bool:
        """Ask for a pass over each job of a namespace that is served again."""
        for job in self.store.of_kind("FineTuneJob"):
            if job.namespace == namespace:
                self.changed(job)
        return True

    def _compare(self, kind: Kind, namespace: str, listed: list[Stored], version: int) -> None:
        missed = 0
        self._notice_restore(kind, namespace, version)
        for each in listed:
            if self.store.take(each):
                missed += 1
                self.changed(each)
        present = {each.uid for each in listed}
        known = (each for each in self.store.of_kind(kind) if not namespace or each.namespace == namespace)
        # An object with a newer version than the list was created after it: it is no ghost.
        ghosts = [each.uid for each in known if each.uid not in present and each.version <= version]
        for uid in ghosts:
            self.gone(uid)
        if kind in QUOTA_KINDS:  # how much is used changes all the time, and their watch may be forbidden
            return
        if self.last_success is not None and missed + len(ghosts):
            metrics.MISSED.labels(kind).inc(missed + len(ghosts))
            log.info(
                "full comparison found missed changes", extra={"kind": kind, "missed": missed, "ghosts": len(ghosts)}
            )
        if self.last_success is not None and missed:
            self.behind_since.setdefault(kind, time.monotonic())

    def _notice_restore(self, kind: Kind, namespace: str, version: int) -> None:
        """Start anew with a kind whose versions have gone back: compared with them, everything would look old for ever."""
        before = self._versions.get((kind, namespace), 0)
        if version < before:
            log.warning(
                "the API server was restored to an earlier state; reading everything again",
                extra={"kind": kind, "version": version, "before": before},
            )
            metrics.RESTORES.labels(kind).inc()
            self.store.rewind(kind)
        self._versions[kind, namespace] = version

    def silent(self, limit_seconds: float) -> tuple[str, ...]:
        """Return the kinds whose watch has missed changes and said nothing since, for longer than the limit."""
        now = time.monotonic()
        return tuple(kind for kind, since in self.behind_since.items() if now - since > limit_seconds)

    def stale(self) -> bool:
        """Tell whether no comparison has succeeded for three intervals."""
        return self.last_success is not None and time.monotonic() - self.last_success > 3 * self.interval_seconds + 60
