"""Moments as the API spells them, and back. Whole seconds: finer ones would be a change that nobody notices."""

import functools
from datetime import UTC, datetime, timedelta


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
