"""The namespaces that are served, and those that are skipped for now: one that is forbidden or deleted must not stop the others.

Empty where the whole cluster is served. Told by resync, which tries them; asked by handlers, which watch them.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from finetune_operator.controller import metrics

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Namespaces:
    """Which of the configured namespaces are skipped, and why."""

    configured: tuple[str, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    """Namespace -> the API server's words."""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def serves(self, namespace: str) -> bool:
        """Tell whether a namespace is served; objects without a namespace always are."""
        return namespace not in self.skipped

    async def skip(self, namespace: str, why: str) -> None:
        """Serve a namespace no longer; say so once."""
        if namespace in self.skipped:
            return
        self.skipped[namespace] = why
        log.warning("namespace is skipped until it can be read; retrying", extra={"namespace": namespace, "why": why})
        await self._tell()

    async def accept(self, namespace: str) -> bool:
        """Serve a namespace again; tell whether it was skipped."""
        if self.skipped.pop(namespace, None) is None:
            return False
        log.info("namespace is served again", extra={"namespace": namespace})
        await self._tell()
        return True

    async def until(self, namespace: str, *, served: bool) -> None:
        """Wait until a namespace is served, or until it is skipped."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.serves(namespace) is served)

    async def _tell(self) -> None:
        metrics.NAMESPACES_SKIPPED.set(len(self.skipped))
        async with self._changed:
            self._changed.notify_all()

    def scopes(self) -> Iterable[str]:
        """Return what is listed: the cluster-scoped objects (empty), then each namespace."""
        return ("", *self.configured)
