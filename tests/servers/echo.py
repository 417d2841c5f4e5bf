"""A server that refuses every request, and repeats the headers that it was sent: a stranger's, or a proxy that is too talkative."""

import contextlib
import http.server
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from finetune_operator.local.ports import HOST

from tests.servers.http_thread import in_thread


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()

    def do_GET(self) -> None:
        sent = self.headers.get("Authorization", "")
        self.server.seen.add(sent)  # type: ignore[attr-defined]
        message = f"not for {sent}, {quote(sent.partition(' ')[2], safe='')} " + "." * 100 + sent
        data = json.dumps({"error_code": "BAD_REQUEST", "message": message}).encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def echoing() -> Iterator[tuple[str, set[str]]]:
    """Yield the URL of the server, and the Authorization headers that it has seen."""
    server = http.server.ThreadingHTTPServer((HOST, 0), _Handler)
    server.seen = set()  # type: ignore[attr-defined]
    with in_thread(server) as address:
        yield f"http://{address}", server.seen  # type: ignore[attr-defined]
