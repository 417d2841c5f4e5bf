"""A git repository that the tests write and serve over HTTP on the loopback, as a git host would."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

BRANCH = "main"
IDENTITY = {f"GIT_{who}_{what}": "gitops" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
PLAIN = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
"""No setting of this machine's user."""


@dataclass(frozen=True)
class Repository:
    """One work tree; what is committed is served at `url`."""

    folder: Path
    url: str

    def write(self, path: str, *objects: Any) -> None:
        """Write objects to a file."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(yaml.safe_dump_all(objects, sort_keys=False))

    def copy(self, source: Path, path: str) -> None:
        """Copy a folder."""
        shutil.copytree(source, self.folder / path, dirs_exist_ok=True)

    def replace(self, path: str, old: str, new: str) -> None:
        """Change a text in a file, which must be there."""
        target = self.folder / path
        text = target.read_text()
        assert old in text, f"{path} does not hold {old!r}"
        target.write_text(text.replace(old, new))

    def remove(self, path: str) -> None:
        """Remove a file or a folder."""
        target = self.folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    def commit(self, message: str = "change") -> str:
        """Commit everything; return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments: str) -> str:
        """Run git in the work tree."""
        command = ["git", "-C", str(self.folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | IDENTITY | PLAIN)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout


@contextmanager
def served(root: Path, port: int) -> Iterator[str]:
    """Serve the repositories of a folder, for reading; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            env = PLAIN | {
                "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_ADDR": "127.0.0.1",
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }  # fmt: skip
            done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
            head, _, rest = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(rest)

        do_GET = do_POST = answer  # noqa: N815  # the names that http.server calls

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # http.server's signature
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def repository(root: Path, name: str, address: str) -> Repository:
    """Make an empty repository in a served folder."""
    made = Repository(root / name, f"{address}/{name}")
    made.folder.mkdir(parents=True)
    made.git("init", "--quiet", f"--initial-branch={BRANCH}")
    made.commit("empty")
    return made
