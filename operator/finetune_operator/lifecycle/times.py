"""Moments as the API spells them, and back. Whole seconds: finer ones would be a change that nobody notices."""

from datetime import UTC, datetime, timedelta


def timestamp(moment: datetime) -> str:
    """Return RFC 3339 in UTC, such as 2026-01-31T12:00:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """Return the moment that a timestamp names."""
    return datetime.fromisoformat(text)


def after(text: str, seconds: float) -> datetime:
    """Return the moment so many seconds after a timestamp."""
    return moment(text) + timedelta(seconds=seconds)
