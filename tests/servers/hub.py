"""A model hub on the loopback that speaks the HTTP API of huggingface_hub: repositories, files, gates, commits, LFS."""

import base64
import contextlib
import hashlib
import json
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.servers.http_thread import in_thread

TOKEN = "hf_testtokenofnobody000000000000000"  # the only token that this hub knows
LFS_SUFFIXES = (".safetensors", ".parquet", ".arrow")


@dataclass
class Repository:
    """One repository and all its commits."""

    kind: str
    """model | dataset"""
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    head: str = ""
    gated: bool = False
    """Needs accepted conditions, which nobody here ever accepts: 401 without, 403 with a token."""
    private: bool = False
    """404 or 401 for those without the token."""

    def commit(self, files: dict[str, bytes]) -> str:
        """Add a commit with these files; return its id."""
        text = json.dumps([self.head, {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}])
        self.head = hashlib.sha1(text.encode()).hexdigest()
        self.commits[self.head] = files
        return self.head

    @property
    def files(self) -> dict[str, bytes]:
        """The files at the newest commit."""
        return self.commits.get(self.head, {})


@dataclass
class Hub:
    """The server: its repositories, and every request that it saw."""

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    """`models/ORG/NAME` or `datasets/ORG/NAME`"""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """(method, path)"""
    sent_bytes: int = 0
    """Of files."""
    large_files: dict[str, bytes] = field(default_factory=dict)
    """By sha256: uploaded through LFS, named by a later commit."""

    def add(
        self,
        name: str,
        files: dict[str, bytes | str],
        *,
        kind: str = "model",
        gated: bool = False,
        private: bool = False,
    ) -> str:
        """Publish a repository; return the id of its commit."""
        content = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
        repository = Repository(kind=kind, gated=gated, private=private)
        self.repositories[f"{kind}s/{name}"] = repository
        return repository.commit(content)

    def repository(self, name: str, kind: str = "model") -> Repository:
        """Return a repository."""
        return self.repositories[f"{kind}s/{name}"]


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Hub]:
    """Serve an empty hub on a free loopback port until the end of the block."""
    hub = Hub()

    class Handler(HubRequest):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    with in_thread(server) as address:
        hub.endpoint = f"{'https' if tls else 'http'}://{address}"
        yield hub


class Refused(Exception):
    """An answer with a status, an error code and a message, as the hub's headers carry them."""

    def __init__(self, status: HTTPStatus, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class HubRequest(BaseHTTPRequestHandler):
    """Answers one request."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: `hub.requests` has it."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        self.content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            for method, pattern, action in ROUTES:
                if self.command in method and (match := re.fullmatch(pattern, path)):
                    getattr(self, action)(**match.groupdict())
                    return
            self._send({"error": f"no route {self.command} {path}"}, HTTPStatus.NOT_FOUND)
        except Refused as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            self._send(
                {"error": refusal.message}, refusal.status, {key: value for key, value in headers.items() if value}
            )

    def _send(self, body: Any, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _authorized(self) -> bool:
        given = self.headers.get("Authorization", "")
        if given and given != f"Bearer {TOKEN}":
            raise Refused(HTTPStatus.UNAUTHORIZED, "", "Invalid credentials in Authorization header")
        return bool(given)

    def _repository(self, kind: str, name: str, *, contents: bool = True) -> Repository:
        known = self._authorized()
        repository = self.hub.repositories.get(f"{kind}/{name}")
        if repository is None or (repository.private and not known):
            status = HTTPStatus.NOT_FOUND if known else HTTPStatus.UNAUTHORIZED
            raise Refused(status, "RepoNotFound" if known else "", "Repository not found")
        if repository.gated and contents:
            status = HTTPStatus.FORBIDDEN if known else HTTPStatus.UNAUTHORIZED
            raise Refused(status, "GatedRepo", "Access to this model is restricted")
        return repository

    def _commit_of(self, repository: Repository, revision: str | None) -> str:
        commit = repository.head if revision in (None, "main") else str(revision)
        if commit not in repository.commits and commit != repository.head:
            raise Refused(HTTPStatus.NOT_FOUND, "RevisionNotFound", "Invalid rev id")
        return commit

    def info(self, kind: str, name: str, revision: str | None = None) -> None:
        repository = self._repository(kind, name, contents=False)
        commit = self._commit_of(repository, revision)
        siblings = [{"rfilename": path} for path in sorted(repository.commits.get(commit, {}))]
        self._send(
            {"id": name, "sha": commit, "private": repository.private, "gated": repository.gated, "siblings": siblings}
        )

    def tree(self, kind: str, name: str, revision: str, path: str | None = None) -> None:
        repository = self._repository(kind, name)
        files = repository.commits.get(self._commit_of(repository, revision), {})
        below = {one: data for one, data in files.items() if not path or one.startswith(f"{path}/")}
        if path and not below:
            raise Refused(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
        self._send([described(one, data) for one, data in sorted(below.items())])

    def paths_info(self, kind: str, name: str, revision: str) -> None:
        repository = self._repository(kind, name)
        files = repository.commits.get(self._commit_of(repository, revision), {})
        wanted = json.loads(self.content)["paths"]
        self._send([described(path, files[path]) for path in wanted if path in files])

    def resolve(self, name: str, revision: str, path: str, kind: str | None = None) -> None:
        repository = self._repository(kind or "models", name)
        commit = self._commit_of(repository, revision)
        data = repository.commits[commit].get(path)
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if data is None:
            raise Refused(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
        headers["ETag"] = f'"{hashlib.sha256(data).hexdigest()}"'
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(wanted[1]), int(wanted[2] or len(data) - 1)
            part = data[start : end + 1]
            self.hub.sent_bytes += len(part)
            headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
            self._send(part, HTTPStatus.PARTIAL_CONTENT, headers)
            return
        self.hub.sent_bytes += len(data)
        self._send(data, HTTPStatus.OK, headers)

    def create(self) -> None:
        self._writable()
        asked = json.loads(self.content)
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        key = f"{asked.get('type') or 'model'}s/{name}"
        if key in self.hub.repositories:
            self._send(
                {"error": "You already created this repo", "url": f"{self.hub.endpoint}/{name}"}, HTTPStatus.CONFLICT
            )
            return
        repository = Repository(kind=asked.get("type") or "model", private=asked.get("visibility") == "private")
        repository.commit({".gitattributes": b""})
        self.hub.repositories[key] = repository
        self._send({"url": f"{self.hub.endpoint}/{name}", "id": name})

    def validate_card(self) -> None:
        self._send({"errors": [], "warnings": []})

    def preupload(self, kind: str, name: str, revision: str) -> None:
        self._repository(kind, name)
        files = json.loads(self.content)["files"]
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular",
                "shouldIgnore": False,
            }
            for file in files
        ]
        self._send({"files": modes})

    def lfs_batch(self, name: str, kind: str | None = None) -> None:
        self._writable()
        asked = json.loads(self.content)
        objects = [
            one | {"actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{one['oid']}", "header": {}}}}
            for one in asked["objects"]
        ]
        self._send({"transfer": "basic", "objects": objects})

    def lfs_upload(self, digest: str) -> None:
        assert hashlib.sha256(self.content).hexdigest() == digest
        self.hub.large_files[digest] = self.content
        self._send({})

    def commit(self, kind: str, name: str, revision: str) -> None:
        self._writable()
        repository = self._repository(kind, name)
        header, *operations = [json.loads(line) for line in self.content.splitlines()]
        parent = header["value"].get("parentCommit")
        if parent and parent != repository.head:
            raise Refused(
                HTTPStatus.PRECONDITION_FAILED, "", "A commit has happened since. Please refresh and try again."
            )
        files = dict(repository.files)
        for operation in operations:
            self._apply(files, operation["key"], operation["value"])
        commit = repository.commit(files)
        self._send({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{commit}", "commitOid": commit, "success": True})

    def _apply(self, files: dict[str, bytes], key: str, value: dict[str, Any]) -> None:
        match key:
            case "file":
                files[value["path"]] = base64.b64decode(value["content"])
            case "lfsFile":
                files[value["path"]] = self.hub.large_files[value["oid"]]
            case "deletedFile":
                del files[value["path"]]
            case _:
                raise Refused(HTTPStatus.BAD_REQUEST, "", f"unknown operation {key}")

    def _writable(self) -> None:
        if not self._authorized():
            raise Refused(HTTPStatus.UNAUTHORIZED, "", "Invalid username or password.")


KIND, NAME, REVISION = r"(?P<kind>models|datasets)", r"(?P<name>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
ROUTES = (
    (("GET",), rf"/api/{KIND}/{NAME}", "info"),
    (("GET",), rf"/api/{KIND}/{NAME}/revision/{REVISION}", "info"),
    (("GET",), rf"/api/{KIND}/{NAME}/tree/{REVISION}(/(?P<path>.*))?", "tree"),
    (("POST",), rf"/api/{KIND}/{NAME}/paths-info/{REVISION}", "paths_info"),
    (("POST",), r"/api/repos/create", "create"),
    (("POST",), r"/api/validate-yaml", "validate_card"),
    (("POST",), rf"/api/{KIND}/{NAME}/preupload/{REVISION}", "preupload"),
    (("POST",), rf"/api/{KIND}/{NAME}/commit/{REVISION}", "commit"),
    (("POST",), rf"/((?P<kind>datasets)/)?{NAME}\.git/info/lfs/objects/batch", "lfs_batch"),
    (("PUT",), r"/lfs/(?P<digest>[0-9a-f]{64})", "lfs_upload"),
    (("GET", "HEAD"), rf"/((?P<kind>datasets)/)?{NAME}/resolve/{REVISION}/(?P<path>.+)", "resolve"),
)


def described(path: str, data: bytes) -> dict[str, Any]:
    """Return a tree entry."""
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": blob}
    if path.endswith(LFS_SUFFIXES):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 128}
    return entry
