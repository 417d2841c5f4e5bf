"""A front before an S3 server for tests: it counts the parts, and can hold them back, damage what is read, or refuse to list uploads."""

import contextlib
import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from finetune_operator.local.ports import HOST

from tests.servers.http_thread import in_thread

HOP = ("connection", "transfer-encoding", "content-length", "expect")
REFUSED = b"<Error><Code>%s</Code><Message>no</Message></Error>"


@dataclass
class Front:
    """What the front does, and what it saw."""

    target: str
    endpoint: str = ""
    admit_parts: float = float("inf")
    """So many parts pass; the others get no answer."""
    damage_reads: bool = False
    """Each object that is read has its first byte changed."""
    refuse_lists: tuple[int, bytes] | None = None
    """Status and code of the answer to whoever lists uploads."""
    parts: list[int] = field(default_factory=list)
    """The numbers of the parts that passed."""
    released: threading.Event = field(default_factory=threading.Event)
    """Set when nothing is held back any more."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def let_go(self) -> None:
        """Admit parts from now on, and hang up on those that were held back."""
        self.admit_parts = float("inf")
        self.released.set()

    def admits(self, part: int) -> bool:
        """Count a part that may pass."""
        with self.lock:
            admitted = len(self.parts) < self.admit_parts
            if admitted:
                self.parts.append(part)
        return admitted


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    front: Front

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        front, asked = self.front, parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.command == "PUT" and "partNumber" in asked and not front.admits(int(asked["partNumber"][0])):
            front.released.wait()
            self.close_connection = True
            return
        if self.command == "GET" and "uploads" in asked and front.refuse_lists:
            status, code = front.refuse_lists
            self._answer(status, {}, REFUSED % code)
            return
        status, headers, content = self._forward(body)
        if self.command == "GET" and not asked and front.damage_reads:
            content = bytes([content[0] ^ 1]) + content[1:]
        self._answer(status, headers, content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815  # the names that http.server calls

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Pass a request on as it is, with its Host: that is signed."""
        given = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        connection = http.client.HTTPConnection(self.front.target, timeout=30)
        connection.request(self.command, self.path, body=body, headers=given)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in HOP:
                self.send_header(name, value)
        size = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", size)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextlib.contextmanager
def s3_front(endpoint: str) -> Iterator[Front]:
    """Put a front before an S3 server on this machine until the end of the block."""
    front = Front(target=endpoint.removeprefix("http://"))
    server = ThreadingHTTPServer((HOST, 0), type("Bound", (Handler,), {"front": front}))
    with in_thread(server) as place:
        front.endpoint = f"http://{place}"
        try:
            yield front
        finally:
            front.let_go()
