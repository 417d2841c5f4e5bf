"""A front before a registry for tests: it counts what is asked, and can refuse parts, lose connections or ask for a token."""

import contextlib
import http.client
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from finetune_operator.local.ports import HOST

from tests.servers.http_thread import in_thread
from tests.servers.oci_registry import docker_config, login

TOKEN = "an-opaque-token-of-the-front"
HOP = ("connection", "transfer-encoding", "host", "content-length", "authorization")


@dataclass
class Front:
    """What the front does, and what it saw."""

    target: str
    host: str = ""
    lose_parts: int = 0
    """So many PATCH requests reach the registry by half, and get no answer."""
    lose_reads: int = 0
    """So many answers to GET of a blob end in the middle."""
    refuse_parts: bool = False
    ignore_ranges: bool = False
    fixed_tags: bool = False
    """A tag cannot be written twice."""
    token: bool = False
    """Ask for a token, which the front itself gives for the password."""
    wrong_blobs: bool = False
    """Send other bytes than the registry has."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)

    @property
    def environment(self) -> dict[str, str]:
        """The key of a credentials Secret."""
        return {".dockerconfigjson": docker_config(self.host)}

    def count(self, method: str) -> int:
        """How often something was asked."""
        return sum(asked == method for asked, _ in self.seen)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    front: Front

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        front, length = self.front, int(self.headers.get("Content-Length") or 0)
        front.seen.append((self.command, self.path))
        if front.token and self._is_challenged():
            self.rfile.read(length)
            return
        if self.command == "PATCH" and (front.refuse_parts or front.lose_parts):
            self._disturb(length)
            return
        body = self.rfile.read(length)
        if front.fixed_tags and self.command == "PUT" and "/manifests/" in self.path:
            if self.path in front.tags:
                self._answer(412, b'{"errors":[{"code":"PRECONDITION","message":"configured as immutable"}]}')
                return
            front.tags.add(self.path)
        status, headers, content = self._forward(body)
        if front.wrong_blobs and self.command == "GET" and "/blobs/sha256" in self.path:
            content = b"x" * len(content)
        self._answer(status, content, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815  # the names that http.server calls

    def _disturb(self, length: int) -> None:
        """Refuse a part, or pass half of it on and hang up."""
        if self.front.refuse_parts:
            self.rfile.read(length)
            self._answer(405, b'{"errors":[{"code":"UNSUPPORTED","message":"no parts"}]}')
            return
        self.front.lose_parts -= 1
        half = self.rfile.read(length // 2)
        first, _, _ = self.headers["Content-Range"].partition("-")
        self.headers.replace_header("Content-Range", f"{first}-{int(first) + len(half) - 1}")
        self._forward(half)
        self.close_connection = True

    def _is_challenged(self) -> bool:
        if self.path.startswith("/token"):
            known = self.headers.get("Authorization") == f"Basic {login()}"
            content = b'{"token": "%s"}' % TOKEN.encode()
            self._answer(200 if known else 401, content if known else b"{}")
            return True
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return False
        scope = 'scope="repository:x:pull,push"'
        self._answer(
            401, b"{}", {"WWW-Authenticate": f'Bearer realm="http://{self.front.host}/token",service="tests",{scope}'}
        )
        return True

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        given = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        if self.front.ignore_ranges:
            given.pop("Range", None)
        given["Authorization"] = f"Basic {login()}"
        connection = http.client.HTTPConnection(self.front.target, timeout=30)
        connection.request(self.command, self.path, body=body, headers=given | {"Host": self.front.host})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            if name.lower() not in HOP:
                self.send_header(name, value)
        size = (headers or {}).get("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(size or 0))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.command == "GET" and "/blobs/sha256" in self.path and self.front.lose_reads:
            self.front.lose_reads -= 1
            content, self.close_connection = content[: len(content) // 2], True
        self.wfile.write(content)


@contextlib.contextmanager
def registry_front(target: str) -> Iterator[Front]:
    """Put a front before a registry on this machine until the end of the block."""
    front = Front(target=target)
    server = ThreadingHTTPServer((HOST, 0), type("Bound", (Handler,), {"front": front}))
    with in_thread(server) as front.host:
        yield front
