"""How far a waiting Workload is from its turn, by Kueue's visibility API. Called by queueing.

The API is served by Kueue's own process and may be switched off, forbidden or down: then there is no position, and nothing else changes.
"""

import time
from dataclasses import dataclass, field
from typing import Final

from finetune_operator.controller.api import Api
from finetune_operator.errors import ClusterUnavailable

ROOT: Final = "/apis/visibility.kueue.x-k8s.io/v1beta2"
LOOK_SECONDS = 4.0
"""One answer serves all jobs of a queue that are looked at meanwhile."""

ABSENT_SECONDS = 60.0
"""Between two tries where the API does not answer with a list."""

ANSWER_SECONDS = 3.0
"""A pass does not wait longer for a figure that it can do without."""

MOST_WORKLOADS = "1000"

Queue = tuple[str, str]
"""Namespace and name of a LocalQueue."""


@dataclass(slots=True)
class Positions:
    """Remembers for a moment who waits in which queue."""

    api: Api
    _known: dict[Queue, tuple[float, dict[str, int] | None]] = field(default_factory=dict)
    """LocalQueue -> until when it counts, and the places of its Workloads in their ClusterQueue."""

    async def of(self, namespace: str, queue: str, workload: str) -> int:
        """Return the place of a Workload in its ClusterQueue, counted from 1; 0 where Kueue does not tell."""
        now = time.monotonic()
        until, places = self._known.get((namespace, queue), (0.0, None))
        if until <= now:
            places = await self._read(namespace, queue)
            self._known[namespace, queue] = now + (ABSENT_SECONDS if places is None else LOOK_SECONDS), places
        return (places or {}).get(workload, 0)

    async def _read(self, namespace: str, queue: str) -> dict[str, int] | None:
        """Return the places of a queue's Workloads; None where nobody tells."""
        path = f"{ROOT}/namespaces/{namespace}/localqueues/{queue}/pendingworkloads"
        try:
            answer = await self.api.request("GET", path, query={"limit": MOST_WORKLOADS}, seconds=ANSWER_SECONDS)
        except ClusterUnavailable:
            return None
        if answer.status != 200:
            return None
        items = answer.body.get("items") or ()
        return {each["metadata"]["name"]: int(each["positionInClusterQueue"]) + 1 for each in items}
