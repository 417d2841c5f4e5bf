"""Azurite, Microsoft's own emulator of Azure Blob Storage, over a folder; installed by npm into the cache, once (150 MB)."""

import base64
import contextlib
import hashlib
import hmac
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import pytest
from finetune_operator.local.binaries import cache_root
from finetune_operator.local.ports import HOST, free_port

from tests.servers.child import served

VERSION = "3.35.0"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's documented account and key; no secret."""

API = "2021-08-06"


@dataclass(frozen=True)
class AzureServer:
    """Where the server is and how to get in."""

    endpoint: str
    key: str

    @property
    def environment(self) -> dict[str, str]:
        """The keys of a credentials Secret."""
        return {"AZURE_STORAGE_ACCOUNT_KEY": self.key, "AZURE_STORAGE_ENDPOINT": self.endpoint}

    def make_container(self, name: str) -> str:
        """Make a container and return the URI of a place in it."""
        date = formatdate(usegmt=True)
        what = f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{API}\n{what}"
        digest = hmac.new(base64.b64decode(self.key), signed.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": date, "x-ms-version": API, "Content-Length": "0", "Content-Type": "",
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        }  # fmt: skip
        request = urllib.request.Request(
            f"{self.endpoint}/{name}?restype=container", method="PUT", data=b"", headers=headers
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 201
        return f"az://{ACCOUNT}/{name}"


def program() -> Path:
    """Return the command, which is installed where it is missing. Skips the test where npm cannot."""
    folder = cache_root() / "engines" / f"azurite-{VERSION}"
    if not (folder / "complete").is_file():
        if (npm := shutil.which("npm")) is None:
            pytest.skip("npm is not installed, which installs Azurite: install Node.js")
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), f"azurite@{VERSION}"]
        installed = subprocess.run(command, capture_output=True, text=True, check=False)
        if installed.returncode:
            pytest.skip(f"npm cannot install Azurite {VERSION}: {installed.stderr.strip()[-300:]}")
        (folder / "complete").touch()
    return folder / "node_modules/.bin/azurite-blob"


@contextlib.contextmanager
def azure_server(folder: Path) -> Iterator[AzureServer]:
    """Serve a folder on the loopback until the end of the block."""
    port = free_port(set())
    command = [
        str(program()), "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--blobHost", HOST, "--blobPort", str(port),
        "--location", str(folder),
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    url = f"http://{HOST}:{port}"
    with served(command, url, folder / "azurite.log"):
        yield AzureServer(endpoint=f"{url}/{ACCOUNT}", key=KEY)
