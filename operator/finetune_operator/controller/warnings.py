"""Why a Pod does not start, in the words of Events: of a volume, a sandbox, a network plug-in, an autoscaler. Called by cluster.

The status of such a Pod says no more than ContainerCreating, or what the scheduler sees, which knows nothing of nodes that do not
exist yet. Events are read for Pods that have waited for two minutes only, in the background and at most once a minute for each.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from finetune_contract import harmless

from finetune_operator.controller.api import Api
from finetune_operator.errors import FinetuneError
from finetune_operator.lifecycle.observation import SeenPod

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 120
"""What passes by itself has passed by then: an image is pulled, a volume is attached."""

AGAIN_SECONDS = 60.0
REMEMBERED = 1000

SCALING = ("TriggeredScaleUp", "NotTriggerScaleUp", "FailedScaleUp", "Nominated")
"""Reasons of Events by which autoscalers speak about a Pod: three of cluster-autoscaler's, and Karpenter's."""

KARPENTERS = "Failed to schedule pod"
"""How Karpenter's FailedScheduling begins; the scheduler's stands in the Pod's status already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What Events say about one Pod, in their words."""

    warning: str = ""
    """Reason and note of the newest Warning."""
    autoscaler: str = ""
    """The newest note of an autoscaler."""


@dataclass(slots=True)
class Known:
    """What was read about one Pod, and when."""

    said: Said
    read_at: float


@dataclass(slots=True)
class Warnings:
    """Reads Events and asks for a pass when there is news."""

    api: Api
    ask_for_pass: Callable[[str], None]
    _known: dict[str, Known] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def about(self, namespace: str, job_uid: str, pod: SeenPod) -> Said:
        """Return what is known about a Pod that waits, and see to it that more will be."""
        waits = pod.phase == "Pending" and not pod.deleting
        if not waits or self.api.clock.now() - pod.created_at < timedelta(seconds=PATIENCE_SECONDS):
            return Said()
        now = asyncio.get_running_loop().time()
        known = self._known.get(pod.uid)
        if known is None or now - known.read_at >= AGAIN_SECONDS:
            known = self._known[pod.uid] = Known(known.said if known else Said(), now)
            while len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
            task = asyncio.create_task(self._read(namespace, job_uid, pod, known), name=f"Events of {pod.name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return known.said if known.said.warning else replace(known.said, warning=unheard(pod, self.api.clock.now()))

    def next_look(self, pods: Iterable[SeenPod]) -> float | None:
        """Return the seconds until a waiting Pod is to be looked at again; None where none waits."""
        now = self.api.clock.now()
        ages = [(now - pod.created_at).total_seconds() for pod in pods if pod.phase == "Pending" and not pod.deleting]
        return min((max(PATIENCE_SECONDS - age, AGAIN_SECONDS) for age in ages), default=None)

    async def _read(self, namespace: str, job_uid: str, pod: SeenPod, known: Known) -> None:
        query = {"fieldSelector": f"regarding.uid={pod.uid}", "limit": "500"}
        try:
            answer = await self.api.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", query)
            said = what_is_said(answer.expect(200)["items"])
        except FinetuneError as error:  # an operator without the right to read Events still runs jobs
            log.debug("Events of a Pod could not be read", extra={"pod": pod.name, "error": str(error)})
            return
        if said != known.said:
            known.said = said
            self.ask_for_pass(job_uid)


def unheard(pod: SeenPod, now: datetime) -> str:
    """Return that no scheduler, or the kubelet of a Pod's node, has begun with it: of that neither Events nor conditions speak."""
    if pod.ignored_by:
        return f"scheduler {pod.ignored_by} has not looked at it: check that a scheduler of this name is installed and runs"
    if pod.scheduled_at is None or pod.taken_in or now - pod.scheduled_at < timedelta(seconds=PATIENCE_SECONDS):
        return ""
    return f"node {pod.node_name} has not begun with it for {PATIENCE_SECONDS // 60} minutes, as if its kubelet did not answer"


def what_is_said(events: list[dict[str, Any]]) -> Said:
    """Return what some Events about one Pod say."""
    by_time = sorted(events, key=time_of)
    warnings = [each for each in by_time if each.get("type") == "Warning"]
    scaling = [each for each in by_time if is_autoscalers(each)]
    return Said(
        warning=f"{warnings[-1].get('reason', '')}: {note_of(warnings[-1])}" if warnings else "",
        autoscaler=note_of(scaling[-1]) if scaling else "",
    )


def is_autoscalers(event: dict[str, Any]) -> bool:
    """Tell whether an autoscaler speaks."""
    return event.get("reason") in SCALING or note_of(event).startswith(KARPENTERS)


def note_of(event: dict[str, Any]) -> str:
    """Return the sentence of an Event."""
    return harmless(str(event.get("note", ""))).strip()


def time_of(event: dict[str, Any]) -> str:
    """Return when an Event was last seen, by whichever of its spellings it has."""
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(
        series
        or event.get("deprecatedLastTimestamp")
        or event.get("eventTime")
        or event["metadata"]["creationTimestamp"]
    )
