"""Sentences for `kubectl describe`: one Event per thing said, counted when it is said again, at a bounded rate."""

import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from finetune_operator.api.group import API_VERSION, GROUP, JOB_KIND
from finetune_operator.api.meta import Metadata
from finetune_operator.controller.api import MERGE_PATCH, Api
from finetune_operator.controller.store import forget_oldest
from finetune_operator.errors import FinetuneError
from finetune_operator.lifecycle.observation import Event

log = logging.getLogger(__name__)

REPEAT_SECONDS = 60
"""A repeated sentence is counted in its Event at most once in so many seconds."""

BURST_EVENTS = 25
REFILL_SECONDS = 60
"""A job may say 25 different things at once and one more each minute; more would only push older Events out."""

REMEMBERED = 10_000
"""Jobs of which we know what was said about them; of each the newest sentences, as many as it may say in an hour."""

MOST_SENTENCES = BURST_EVENTS + 3600 // REFILL_SECONDS
NOTE_BYTES = 1024


def event_name(job: Metadata, event: Event) -> str:
    """Return a name that is the same for the same sentence about the same job."""
    words = "\n".join((job.uid, event.type, event.reason, event.message))
    return f"{job.name}.{hashlib.sha256(words.encode()).hexdigest()[:16]}"


def to_micro_time(now: datetime) -> str:
    """Return the Kubernetes spelling of a time with microseconds."""
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def event_manifest(job: Metadata, event: Event, now: datetime, *, instance: str) -> dict[str, Any]:
    """Return the Event object."""
    note = event.message.encode()[:NOTE_BYTES].decode(errors="ignore")
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": event_name(job, event), "namespace": job.namespace},
        "eventTime": to_micro_time(now),
        "reportingController": f"{GROUP}/operator",
        "reportingInstance": instance[:128],
        "action": "Reconcile",
        "reason": event.reason,
        "note": note,
        "type": event.type,
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": JOB_KIND,
            "namespace": job.namespace,
            "name": job.name,
            "uid": job.uid,
        },
    }


@dataclass(slots=True)
class Said:
    """How often a sentence was said and when that was last told to the API server."""

    count: int
    told: datetime


@dataclass(slots=True)
class Recorder:
    """Publishes Events. Never raises: a sentence that is lost does no harm, a job that waits for it would."""

    api: Api
    instance: str
    _said: OrderedDict[str, OrderedDict[str, Said]] = field(default_factory=OrderedDict)
    """Job uid -> name of an Event about it -> how often it was said."""
    _tokens: OrderedDict[str, tuple[float, datetime]] = field(default_factory=OrderedDict)

    def forget(self, uid: str) -> None:
        """Drop what was said about a job that is gone."""
        self._said.pop(uid, None)
        self._tokens.pop(uid, None)

    async def publish(self, job: Metadata, event: Event, now: datetime) -> None:
        """Say it, or count it if it was said before."""
        try:
            await self._publish(job, event, now)
        except FinetuneError as error:
            log.debug(
                "Event could not be written", extra={"job": job.name, "reason": event.reason, "error": str(error)}
            )

    async def _publish(self, job: Metadata, event: Event, now: datetime) -> None:
        name = event_name(job, event)
        about = self._said.get(job.uid)
        if about is not None and (said := about.get(name)) is not None:
            said.count += 1
            if now - said.told >= timedelta(seconds=REPEAT_SECONDS):
                await self._count(job, name, said, now)
            return
        if not self._take_token(job.uid, now):
            return
        said = self._remember(job.uid, name, now)
        manifest = event_manifest(job, event, now, instance=self.instance)
        answer = await self.api.write("POST", f"/apis/events.k8s.io/v1/namespaces/{job.namespace}/events", manifest)
        if answer.status == 409:  # said before this process started
            said.count = 2
            await self._count(job, name, said, now)
        else:
            answer.check(201)

    def _remember(self, uid: str, name: str, now: datetime) -> Said:
        about = self._said.setdefault(uid, OrderedDict())
        said = about[name] = Said(1, now)
        forget_oldest(about, MOST_SENTENCES)
        forget_oldest(self._said, REMEMBERED)
        return said

    async def _count(self, job: Metadata, name: str, said: Said, now: datetime) -> None:
        said.told = now
        path = f"/apis/events.k8s.io/v1/namespaces/{job.namespace}/events/{name}"
        patch = {"series": {"count": max(2, said.count), "lastObservedTime": to_micro_time(now)}}
        answer = await self.api.write("PATCH", path, patch, MERGE_PATCH)
        if answer.status == 404:  # expired on the server
            self._said.get(job.uid, OrderedDict()).pop(name, None)
        else:
            answer.check(200)

    def _take_token(self, uid: str, now: datetime) -> bool:
        tokens, since = self._tokens.get(uid, (float(BURST_EVENTS), now))
        tokens = min(float(BURST_EVENTS), tokens + (now - since).total_seconds() / REFILL_SECONDS)
        self._tokens[uid] = (max(0.0, tokens - 1), now)
        forget_oldest(self._tokens, REMEMBERED)
        return tokens >= 1
