"""How often a bucket is asked again: on a real server that is busy, and on one that hangs up."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from finetune_contract import Location
from finetune_trainer.errors import ReportedError
from finetune_trainer.storage import Role, open_location

LISTING = b"<ListBucketResult><Contents><Key>run/a</Key><Size>1</Size><ETag>x</ETag></Contents></ListBucketResult>"


class Answers(BaseHTTPRequestHandler):
    """Gives its server's answers, one a request, the last one again and again. Status 0 hangs up."""

    def do_GET(self) -> None:
        asked, answers = self.server.asked, self.server.answers  # type: ignore[attr-defined]
        asked.append(self.path)
        status, body = answers[min(len(asked), len(answers)) - 1]
        self.close_connection = True
        if status:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def bucket(*answers: tuple[int, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve the answers; yields the endpoint and the list of what was asked."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.asked, server.answers = [], answers  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(
    ("answer", "asked", "reason"),
    [
        ((0, b""), 16, "StorageUnavailable"),  # aiohttp repeats a GET once where the server hangs up
        ((503, error("ServiceUnavailable")), 8, "StorageUnavailable"),
        ((507, error("XMinioStorageFull")), 1, "StorageFull"),
        ((403, error("AccessDenied")), 1, "OutputNotWritable"),
    ],
)
def test_a_request_is_made_eight_times_where_that_may_help(
    keys: pytest.MonkeyPatch, answer: tuple[int, bytes], asked: int, reason: str
) -> None:
    """s3fs repeats what botocore repeats: the tries of one are not multiplied by those of the other."""
    with bucket(answer) as (endpoint, requests):
        keys.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(ReportedError) as refusal:
            open_location(Location(uri="s3://team/run"), Role.OUTPUT).files()

    assert (len(requests), refusal.value.reason) == (asked, reason)


def test_a_bucket_that_is_busy_for_a_moment_costs_nothing(keys: pytest.MonkeyPatch) -> None:
    """Two answers say that it is overloaded, the third lists the objects."""
    busy = (503, error("SlowDown"))
    with bucket((500, error("InternalError")), busy, (200, LISTING)) as (endpoint, requests):
        keys.setenv("AWS_ENDPOINT_URL", endpoint)
        found = open_location(Location(uri="s3://team/run"), Role.OUTPUT).files()

    assert ([file.path for file in found], len(requests)) == (["a"], 3)
