"""How this process logs: one line per fact, with bound fields, as text or as JSON."""

import json
import logging
import sys
from datetime import UTC, datetime

from aiohttp import ClientError

BUILT_IN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
QUIET = ("kopf", "asyncio", "aiohttp", "kubernetes")


def bound_fields(record: logging.LogRecord) -> dict[str, object]:
    """Return what was bound to a record with `extra`."""
    return {key: value for key, value in vars(record).items() if key not in BUILT_IN}


def line_time(record: logging.LogRecord) -> str:
    """Return the record's time in UTC."""
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def spelled(value: object) -> str:
    """Return a value as one word: quoted where it has spaces, or what a terminal or a reader of lines would obey."""
    text = str(value)
    return text if text.isprintable() and " " not in text else repr(value if isinstance(value, str) else text)


class TextLines(logging.Formatter):
    """`time LEVEL message key=value ...`"""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = " ".join(f"{key}={spelled(value)}" for key, value in bound_fields(record).items())
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return f"{line_time(record)} {record.levelname:7} {record.getMessage()}{' ' if fields else ''}{fields}{trace}"


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {"time": line_time(record), "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line | {"logger": record.name} | bound_fields(record), default=str)


def without_trace(record: logging.LogRecord) -> bool:
    """Take the trace off what the API server answered, or did not: kopf logs one, and the message says it already. Keeps every record."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and isinstance(error.__cause__ or error, ClientError):
        record.exc_info = None
    return True


def configure(level: str, log_format: str) -> None:
    """Log to stderr."""
    sink = logging.StreamHandler(sys.stderr)
    sink.addFilter(without_trace)
    sink.setFormatter(JsonLines() if log_format == "json" else TextLines())
    logging.basicConfig(level=level, handlers=[sink], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING if level != "DEBUG" else logging.INFO)
