"""`finetune logs -f`: a connection that ends before the log does is taken up after the last line."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from finetune_operator.manifests.names import trainer_pod_name

from tests.servers.http_thread import in_thread
from tests.unit.cli.test_habits import kubeconfig, typed

BORN = "2026-11-23T10:00:00Z"
SECOND = "2026-11-23T10:00:02.000000000Z"
POD = trainer_pod_name("bot", 0, 0)


def a_job(*, over: bool) -> dict[str, Any]:
    """Return the job, running or at its end."""
    condition = {
        "type": "Succeeded", "status": "True" if over else "Unknown", "reason": "Published", "message": "",
        "observedGeneration": 1, "lastTransitionTime": BORN,
    }  # fmt: skip
    return {
        "metadata": {"name": "bot", "namespace": "default", "uid": "u", "generation": 1, "resourceVersion": "1", "creationTimestamp": BORN},
        "spec": {
            "model": {"source": "hf://org/model"}, "datasets": [{"source": "s3://team-a/b"}],
            "output": {"destination": "s3://team-a/c"},
        },
        "status": {"phase": "Training", "conditions": [condition]},
    }  # fmt: skip


def a_pod(*, over: bool) -> dict[str, Any]:
    """Return its Pod."""
    owner = {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "name": "bot",
        "uid": "u",
        "controller": True,
    }
    return {
        "metadata": {
            "name": POD,
            "namespace": "default",
            "uid": "p",
            "creationTimestamp": BORN,
            "ownerReferences": [owner],
        },
        "spec": {"containers": []},
        "status": {"phase": "Succeeded" if over else "Running"},
    }


class Broken(BaseHTTPRequestHandler):
    """An API server that cuts the first log off in the middle of a line, and ends the second, as a load balancer does."""

    protocol_version = "HTTP/1.1"
    since: tuple[str, ...] = ()
    """What each request for the log has asked for."""

    def do_GET(self) -> None:
        """Answer one request."""
        url, over = urlsplit(self.path), len(self.since) >= 2
        if url.path.endswith("/log"):
            type(self).since += (parse_qs(url.query).get("sinceTime", [""])[0],)
            self.log()
            return
        listed = {"metadata": {"resourceVersion": "1"}, "items": [a_pod(over=over)]}
        self.whole(json.dumps(listed if url.path.endswith("/pods") else a_job(over=over)).encode())

    def log(self) -> None:
        """Answer with a part of the log."""
        first, second, third = (f"2026-11-23T10:00:0{n}.000000000Z line {n}\n".encode() for n in (1, 2, 3))
        match len(self.since):
            case 1:
                self.whole(first + second, promised=1000)
                self.close_connection = True
            case 2:
                self.whole(second)
            case _:
                self.whole(second + third)

    def whole(self, content: bytes, *, promised: int = 0) -> None:
        """Send an answer."""
        self.send_response(200)
        self.send_header("Content-Length", str(promised or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_a_log_goes_on_after_a_connection_has_ended(tmp_path: Path):
    """Each line once, none lost, to the end of the job."""
    with in_thread(ThreadingHTTPServer(("127.0.0.1", 0), Broken)) as place:
        ended = typed("logs", "bot", "-f", "--kubeconfig", kubeconfig(tmp_path, f"http://{place}", "good"))

    assert ended == (0, "line 1\nline 2\nline 3\n", "")
    assert Broken.since == ("", SECOND, SECOND)
