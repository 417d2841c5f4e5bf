"""When a request to a bucket is repeated. Called by bucket.

Only s3fs repeats. botocore would repeat each of its tries: 5 x 5 requests, which is 25 minutes at a server that accepts and never answers.
"""

from typing import Any

import s3fs.core
from botocore import exceptions  # type: ignore[import-untyped]  # it has no annotations

TRIES = 8
"""s3fs pauses for 0.1 s and 1.7 times as long after each try: 10 s altogether, in which a gateway restarts."""

CONFIG = {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1, "mode": "standard"}}
"""botocore's: one try."""

PASSING_STATUSES = (429, 500, 502, 503, 504)
PASSING_CODES = (
    "RequestTimeout", "RequestTimeoutException", "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded",
    "TooManyRequestsException", "BandwidthLimitExceeded", "RequestThrottled",
)  # fmt: skip
"""What botocore's standard mode repeats."""


def may_pass(error: Exception) -> bool:
    """Tell whether the same request may succeed later: there was no connection, or the server says that it is busy."""
    if not isinstance(error, exceptions.ClientError):
        return isinstance(error, exceptions.ConnectionError)
    response: dict[str, Any] = error.response
    code, status = response.get("Error", {}).get("Code"), response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return code in PASSING_CODES or status in PASSING_STATUSES


def patient(client: Any) -> Any:
    """Let an S3FileSystem make so many tries, also where it would give up at once."""
    s3fs.core.set_custom_error_handler(may_pass)
    client.retries = TRIES
    return client
