"""Moments as the API spells them, and back. Whole seconds: finer ones would be a change that nobody notices."""

import functools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from finetune_operator.lifecycle.observation import Observation, SeenPod


@functools.lru_cache(maxsize=256)
def timestamp(moment: datetime) -> str:
    """Return RFC 3339 in UTC, such as 2026-01-31T12:00:00Z. A pass spells one moment many times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """Return the moment that a timestamp names."""
    return datetime.fromisoformat(text)


def after(text: str, seconds: float) -> datetime:
    """Return the moment so many seconds after a timestamp."""
    return moment(text) + timedelta(seconds=seconds)


def without_foreign_clocks(seen: Observation, now: datetime) -> Observation:
    """Return what is seen with ends that can be true. A kubelet tells them by the clock of its node, which may be hours off."""
    if all(_can_be(pod, now) for pod in seen.pods):
        return seen
    return replace(seen, pods=tuple(pod if _can_be(pod, now) else replace(pod, finished_at=now) for pod in seen.pods))


def _can_be(pod: SeenPod, now: datetime) -> bool:
    """Tell whether a Pod ended between being scheduled and being looked at."""
    return pod.finished_at is None or (pod.scheduled_at or pod.created_at) <= pod.finished_at <= now
