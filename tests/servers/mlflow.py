"""A real MLflow server with its database in a folder, from a virtual environment of its own, made once (some 900 MB)."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from finetune_operator.local import ports
from finetune_operator.local.binaries import cache_root

READY_SECONDS = 120


def python() -> Path:
    """Return the interpreter of the environment, which is made where it is missing."""
    version = metadata.version("mlflow-skinny")
    folder = cache_root() / "engines" / f"mlflow-{version}"
    if not (folder / "complete").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"mlflow=={version}"], check=True)
        (folder / "complete").touch()
    return folder / "bin/python"


class MLflowServer:
    """Answers on a port of this machine."""

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{ports.free_port(set())}"
        port = self.url.rpartition(":")[2]
        command = [
            str(python()), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1",
            "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts",
        ]  # fmt: skip
        self._log = (folder / "mlflow.log").open("wb")
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=self._log, start_new_session=True, cwd=folder
        )
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (folder / "mlflow.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (folder / "mlflow.log").read_text()[-3000:]
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def ask(self, method: str, path: str, **data: Any) -> Any:
        """Call the REST API."""
        query = f"?{urllib.parse.urlencode(data)}" if method == "GET" else ""
        body = None if method == "GET" else json.dumps(data).encode()
        request = urllib.request.Request(
            f"{self.url}/api/2.0/mlflow/{path}{query}",
            data=body,
            method=method,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def close(self) -> None:
        """End it with its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[MLflowServer]:
    """Run a server while the block runs."""
    server = MLflowServer(folder)
    try:
        yield server
    finally:
        server.close()
