"""A Cloud Storage server over a folder (fake-gcs-server) for tests."""

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.local.binaries import FAKE_GCS
from finetune_operator.local.ports import HOST, free_port
from finetune_operator.local.provide import provide

from tests.servers.child import served


@dataclass(frozen=True)
class GoogleServer:
    """Where the server is. It asks nobody who they are."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """The keys of a credentials Secret."""
        return {"GOOGLE_STORAGE_ENDPOINT": self.endpoint}

    def make_container(self, name: str) -> str:
        """Make a bucket and return the URI of a place in it."""
        body = json.dumps({"name": name}).encode()
        request = urllib.request.Request(
            f"{self.endpoint}/storage/v1/b?project=x", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        return f"gs://{name}"


@contextlib.contextmanager
def google_server(folder: Path) -> Iterator[GoogleServer]:
    """Serve a folder on the loopback until the end of the block."""
    port = free_port(set())
    here = f"{HOST}:{port}"
    command = [
        str(provide([FAKE_GCS], say=print)[FAKE_GCS.name]), "-scheme", "http", "-host", HOST, "-port", str(port),
        "-backend", "filesystem", "-filesystem-root", str(folder / "objects"), "-public-host", here,
        "-external-url", f"http://{here}", "-log-level", "warn",
    ]  # fmt: skip
    (folder / "objects").mkdir(parents=True, exist_ok=True)
    with served(command, f"http://{here}/storage/v1/b", folder / "server.log"):
        yield GoogleServer(endpoint=f"http://{here}")
