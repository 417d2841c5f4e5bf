"""LIST and compare: cures what a watch missed, first of all deletions during a gap. Called by process."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from finetune_operator.controller import metrics
from finetune_operator.controller.api import Api
from finetune_operator.controller.store import KINDS, Kind, Store, collection
from finetune_operator.errors import FinetuneError
from finetune_operator.manifests.names import JOB_UID_LABEL

log = logging.getLogger(__name__)

OUR_CHILDREN = JOB_UID_LABEL
"""Label that every child has; the watches select by it too."""

GAP_SECONDS = 1.0
"""How long after a gap we compare: the re-list of one watch brings a burst of hints."""


RETRY_SECONDS = 15.0
"""A comparison that failed is tried again after so long: a gap leaves deletions unseen until one succeeds."""


def selector(kind: Kind) -> str:
    """Return the label selector for a kind: our children only."""
    return OUR_CHILDREN if kind in ("Pod", "Service") else ""


@dataclass(slots=True)
class Resync:
    """Compares the store with the API server and hands every difference to `changed`."""

    api: Api
    store: Store
    namespaces: tuple[str, ...]
    interval_seconds: float
    changed: Callable[[Kind, dict[str, Any]], None]
    """Called with an object that is new or newer."""
    gone: Callable[[str], None]
    """Called with the uid of an object that no longer exists."""
    behind_since: dict[Kind, float] = field(default_factory=dict)
    """Kind -> when we found that its watch had missed a change; cleared by the watch's next event."""
    last_success: float | None = None
    """time.monotonic() of the last complete comparison."""
    _versions: dict[Kind, int] = field(default_factory=dict)
    """Kind -> resourceVersion of the newest list."""
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
        """Compare all kinds once. Children come after the jobs: no job is seen without what it already had."""
        for kind in KINDS:
            listed, version = await self._list(kind)
            self._compare(kind, listed, version)
        self.last_success = time.monotonic()

    async def _list(self, kind: Kind) -> tuple[list[dict[str, Any]], int]:
        namespaces: Iterable[str] = ("",) if kind == "GPUPool" or not self.namespaces else self.namespaces
        objects: list[dict[str, Any]] = []
        versions: list[int] = []
        for namespace in namespaces:
            found, version = await self.api.list(collection(kind, namespace), selector(kind))
            objects += found
            versions.append(int(version))
        return objects, min(versions)

    def _compare(self, kind: Kind, listed: list[dict[str, Any]], version: int) -> None:
        self._notice_restore(kind, version)
        missed = 0
        for raw in listed:
            if self.store.put(kind, raw):
                missed += 1
                self.changed(kind, raw)
        present = {raw["metadata"]["uid"] for raw in listed}
        # An object with a newer version than the list was created after it: it is no ghost.
        ghosts = [each.uid for each in self.store.of_kind(kind) if each.uid not in present and each.version <= version]
        for uid in ghosts:
            self.gone(uid)
        if self.last_success is not None and missed + len(ghosts):
            metrics.MISSED.labels(kind).inc(missed + len(ghosts))
            log.info(
                "full comparison found missed changes", extra={"kind": kind, "missed": missed, "ghosts": len(ghosts)}
            )
        if self.last_success is not None and missed:
            self.behind_since.setdefault(kind, time.monotonic())

    def _notice_restore(self, kind: Kind, version: int) -> None:
        """Start anew with a kind whose versions have gone back: compared with them, everything would look old for ever."""
        if version < self._versions.get(kind, 0):
            log.warning(
                "the API server was restored to an earlier state; reading everything again",
                extra={"kind": kind, "version": version, "before": self._versions[kind]},
            )
            metrics.RESTORES.labels(kind).inc()
            self.store.rewind(kind)
        self._versions[kind] = version

    def silent(self, limit_seconds: float) -> tuple[str, ...]:
        """Return the kinds whose watch has missed changes and said nothing since, for longer than the limit."""
        now = time.monotonic()
        return tuple(kind for kind, since in self.behind_since.items() if now - since > limit_seconds)

    def stale(self) -> bool:
        """Tell whether no comparison has succeeded for three intervals."""
        return self.last_success is not None and time.monotonic() - self.last_success > 3 * self.interval_seconds + 60
