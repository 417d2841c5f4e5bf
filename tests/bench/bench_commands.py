"""Print how long each command takes to its first output, in milliseconds: its help, those that need no cluster, and some that ask one.

The API server is a stand-in without jobs, so that only the command's own time counts.

On a busy machine wall clock says more about the others: processor time is what an idle core would need.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from finetune_operator.cli.app import COMMANDS

FINETUNE = Path(sys.executable).parent / "finetune"
LIMIT_MS = 400
TIMES = 5
ASKING = ("get", "get -A", "top", "cost")
WHOLE = ("plan --model Qwen/Qwen2.5-7B --pools built-in", "models", "gpus", "version")


class Empty(BaseHTTPRequestHandler):
    """An API server without objects."""

    def do_GET(self) -> None:
        """Answer with an empty list."""
        body = json.dumps({"metadata": {"resourceVersion": "1"}, "items": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder, "config")
        kubeconfig.write_text(
            json.dumps(
                {
                    "current-context": "x",
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                }
            )
        )
        for line in (*(f"{name} -h" for name in COMMANDS), *WHOLE):
            measure(line, {})
        for line in ASKING:
            measure(line, {"KUBECONFIG": str(kubeconfig)})


def measure(line: str, environment: dict[str, str]) -> None:
    """Print the figures of one command. The first run compiles the modules, as pip does when it installs a package."""
    environment = {**environment, "PYTHONDONTWRITEBYTECODE": ""}
    once(line.split(), environment)
    wall, processor = zip(*(once(line.split(), environment) for _ in range(TIMES)), strict=True)
    over = "  OVER" if min(processor) > LIMIT_MS else ""
    print(
        f"{line:50} limit {LIMIT_MS} ms; wall {min(wall):5.0f}; processor {min(processor):5.0f}, least of {TIMES}{over}"
    )


def once(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return wall clock until the first byte of output, and processor time of the whole command."""
    used, start = processor_seconds(), time.perf_counter()
    with subprocess.Popen(
        [FINETUNE, *arguments], env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as child:
        assert child.stdout is not None
        child.stdout.read(1)
        first = time.perf_counter() - start
        child.stdout.read()
    return 1000 * first, 1000 * (processor_seconds() - used)


def processor_seconds() -> float:
    """Return the processor time of children so far."""
    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
