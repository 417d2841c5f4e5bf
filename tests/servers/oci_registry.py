"""A registry for OCI artifacts (CNCF Distribution) over a folder for tests. It asks for a password."""

import contextlib
import hashlib
import json
import os
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_operator.local.binaries import Binary
from finetune_operator.local.ports import HOST, free_port
from finetune_operator.local.provide import provide

from tests.real_node.programs import REGISTRY
from tests.servers.child import served

ORAS = Binary(
    name="oras",
    module=str(Path(__file__).parent / "modules/oras"),
    package="oras.land/oras/cmd/oras",
    version="v1.3.6",
    version_command=("version",),
)
"""The client that model cards name for a result in a registry."""

USER, PASSWORD = "team-a", "not-a-real-password"
HASHED = "$2b$05$M5HCpDBtWIRunVbKtXOoP.LAM75zvExzX0g.pBVKdB2LAVL7mekNC"
"""The password, as bcrypt writes it."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class OciRegistry:
    """Where the registry is and how to get in."""

    host: str

    @property
    def environment(self) -> dict[str, str]:
        """The key of a Secret of type kubernetes.io/dockerconfigjson."""
        return {".dockerconfigjson": docker_config(self.host)}

    def asked(self, method: str, path: str, content: bytes | None = None, kind: str = MANIFEST) -> bytes:
        """Send a request of our own, as another tool would, and return the answer's content."""
        with self._answer(method, f"http://{self.host}/v2/{path}", content, kind) as answer:
            return bytes(answer.read())

    def put_blob(self, repository: str, content: bytes) -> str:
        """Send a blob and return its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        with self._answer("POST", f"http://{self.host}/v2/{repository}/blobs/uploads/", b"", "") as begun:
            where = begun.headers["Location"]
        self._answer("PUT", f"{where}&digest={digest}", content, "application/octet-stream").close()
        return digest

    def _answer(self, method: str, url: str, content: bytes | None, kind: str) -> Any:
        headers = {"Accept": MANIFEST, "Content-Type": kind, "Authorization": f"Basic {login()}"}
        request = urllib.request.Request(url, method=method, data=content, headers=headers)
        return urllib.request.urlopen(request, timeout=30)

    def manifest(self, repository: str, reference: str) -> dict[str, Any]:
        """Return a manifest."""
        found: dict[str, Any] = json.loads(self.asked("GET", f"{repository}/manifests/{reference}"))
        return found


def login() -> str:
    """Return user and password as HTTP's basic authentication has them."""
    return b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def docker_config(*hosts: str) -> str:
    """Return what `kubectl create secret docker-registry` stores."""
    return json.dumps({"auths": {host: {"auth": login()} for host in hosts}})


@contextlib.contextmanager
def oci_registry(folder: Path) -> Iterator[OciRegistry]:
    """Serve a folder on the loopback until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    host, settings, users = f"{HOST}:{free_port(set())}", folder / "registry.json", folder / "users"
    users.write_text(f"{USER}:{HASHED}\n")
    settings.write_text(
        json.dumps(
            {
                "version": "0.1",
                "log": {"level": "warn", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}, "delete": {"enabled": True}},
                "auth": {"htpasswd": {"realm": "tests", "path": str(users)}},
                "http": {"addr": host, "secret": "of this test"},
            }
        )
    )
    command = [str(provide([REGISTRY], say=print)[REGISTRY.name]), "serve", str(settings)]
    environment = os.environ | {"OTEL_TRACES_EXPORTER": "none"}
    with served(command, f"http://{host}/v2/", folder / "registry.log", env=environment):
        yield OciRegistry(host=host)
