"""A real HTTP proxy (proxy.py) on the loopback. It alone knows the names of a company, which it resolves to this machine."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.client import eventually

NAMES = (".corp.test", "kubernetes.default.svc")
"""Ends of the names that it knows."""

WEB_PORT = "PROXY_TEST_WEB_PORT"


@dataclass(frozen=True)
class Proxy:
    """Where it is, and what it writes down."""

    address: str
    log: Path

    @property
    def asked_for(self) -> set[str]:
        """Hosts that it was asked to connect to."""
        lines = self.log.read_text().splitlines()
        return {line.split(" CONNECT ")[1].split(":")[0] for line in lines if " CONNECT " in line}


@contextlib.contextmanager
def proxy(folder: Path, *, web_port: int = 443) -> Iterator[Proxy]:
    """Run the proxy until the end of the block; its `data.corp.test` listens on `web_port` instead of 443, which only root may use."""
    port, log = folder / "proxy.port", folder / "proxy.log"
    command = [
        sys.executable, "-m", "proxy", "--hostname=127.0.0.1", "--port=0", f"--port-file={port}", f"--log-file={log}",
        "--num-workers=1", "--num-acceptors=1", "--plugins=tests.servers.proxy_names.CorporateNames",
    ]  # fmt: skip
    with (folder / "proxy.out").open("wb") as out:
        env = os.environ | {WEB_PORT: str(web_port)}
        child = subprocess.Popen(command, stdout=out, stderr=out, cwd=Path(__file__).parents[2], env=env)
    try:
        found = eventually(lambda: port.exists() and port.read_text().strip(), "the proxy listens")
        yield Proxy(address=f"http://127.0.0.1:{found}", log=log)
    finally:
        child.terminate()
        child.wait(timeout=20)
