"""What a registry answers: success, a refusal with its reason, or something that passes. Called by registry and blob_upload."""

from collections.abc import Iterator

import httpx2

TRIES = 7
FIRST_PAUSE_SECONDS = 0.2
"""Doubled after each try: 13 s altogether, in which a registry restarts."""

PASSING = (408, 425, 429, 500, 502, 503, 504)


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.code, self.said = _error(response)
        self.will_pass = will_pass(response)
        super().__init__(" ".join(part for part in (str(self.status), self.code, self.said) if part))


class Changed(Exception):
    """The registry holds something else than what was sent, or asked for."""


def pauses() -> Iterator[float | None]:
    """Yield how long to wait after each try, in seconds; None after the last one."""
    yield from (FIRST_PAUSE_SECONDS * 2**number for number in range(TRIES - 1))
    yield None


def will_pass(response: httpx2.Response) -> bool:
    """Tell whether the same request may succeed later."""
    return response.status_code in PASSING


def good(response: httpx2.Response) -> httpx2.Response:
    """Return a success. Raises Refused for anything else."""
    if not response.is_success:
        raise Refused(response)
    return response


def _error(response: httpx2.Response) -> tuple[str, str]:
    """Return code and message of the first error, which is JSON where the answer is the registry's own."""
    try:
        first = response.json()["errors"][0]
        return str(first.get("code", "")), str(first.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError, httpx2.ResponseNotRead):
        return "", ""
