"""Why a Pod does not start, in the words of its newest Warning Event: a volume, a sandbox, a network plug-in. Called by cluster.

The status of such a Pod says no more than ContainerCreating. Events are read for Pods that have waited for two minutes only,
in the background and at most once a minute for each.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from finetune_operator.controller.api import Api
from finetune_operator.errors import FinetuneError
from finetune_operator.lifecycle.observation import SeenPod

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 120
"""What passes by itself has passed by then: an image is pulled, a volume is attached."""

AGAIN_SECONDS = 60.0
REMEMBERED = 1000


@dataclass(slots=True)
class Warned:
    """The newest Warning about one Pod."""

    words: str = ""
    read_at: float = 0.0


@dataclass(slots=True)
class Warnings:
    """Reads Events and asks for a pass when there is news."""

    api: Api
    ask_for_pass: Callable[[str], None]
    _known: dict[str, Warned] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def about(self, namespace: str, job_uid: str, pod: SeenPod) -> str:
        """Return what is known about a Pod that waits, and see to it that more will be."""
        waits = pod.phase == "Pending" and not pod.deleting
        if not waits or self.api.clock.now() - pod.created_at < timedelta(seconds=PATIENCE_SECONDS):
            return ""
        now = asyncio.get_running_loop().time()
        known = self._known.get(pod.uid)
        if known is None or now - known.read_at >= AGAIN_SECONDS:
            known = self._known[pod.uid] = Warned(known.words if known else "", now)
            while len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
            task = asyncio.create_task(self._read(namespace, job_uid, pod, known), name=f"Events of {pod.name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return known.words or unheard(pod, self.api.clock.now())

    def next_look(self, pods: Iterable[SeenPod]) -> float | None:
        """Return the seconds until a waiting Pod is to be looked at again; None where none waits."""
        now = self.api.clock.now()
        ages = [(now - pod.created_at).total_seconds() for pod in pods if pod.phase == "Pending" and not pod.deleting]
        return min((max(PATIENCE_SECONDS - age, AGAIN_SECONDS) for age in ages), default=None)

    async def _read(self, namespace: str, job_uid: str, pod: SeenPod, known: Warned) -> None:
        query = {"fieldSelector": f"regarding.uid={pod.uid},type=Warning", "limit": "500"}
        try:
            answer = await self.api.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", query)
            words = newest(answer.expect(200)["items"])
        except FinetuneError as error:  # an operator without the right to read Events still runs jobs
            log.debug("Events of a Pod could not be read", extra={"pod": pod.name, "error": str(error)})
            return
        if words != known.words:
            known.words = words
            self.ask_for_pass(job_uid)


def unheard(pod: SeenPod, now: datetime) -> str:
    """Return that the kubelet of a Pod's node has not begun with it: of that neither Events nor conditions speak."""
    if pod.scheduled_at is None or pod.taken_in or now - pod.scheduled_at < timedelta(seconds=PATIENCE_SECONDS):
        return ""
    return f"node {pod.node_name} has not begun with it for {PATIENCE_SECONDS // 60} minutes, as if its kubelet did not answer"


def newest(events: list[dict[str, Any]]) -> str:
    """Return reason and note of the newest of some Events, empty without one."""
    last = max(events, key=time_of, default=None)
    return f"{last.get('reason', '')}: {last.get('note', '').strip()}" if last is not None else ""


def time_of(event: dict[str, Any]) -> str:
    """Return when an Event was last seen, by whichever of its spellings it has."""
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(
        series
        or event.get("deprecatedLastTimestamp")
        or event.get("eventTime")
        or event["metadata"]["creationTimestamp"]
    )
