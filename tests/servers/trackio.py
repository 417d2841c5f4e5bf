"""Trackio's own server over a folder for tests, and a server that takes connections and never answers."""

import contextlib
import json
import os
import socket
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.local.ports import HOST, free_port

from tests.servers.child import served

TOKEN = "not-a-real-write-token"
PROGRAM = (
    "import sys, trackio; trackio.show(host=sys.argv[1], server_port=int(sys.argv[2]), open_browser=False, share=False)"
)


@dataclass(frozen=True)
class TrackioServer:
    """Where it is, and where it keeps what it was sent."""

    url: str
    folder: Path

    def figures(self, project: str, name: str) -> list[float]:
        """Return the values of a figure, in the order in which they were logged."""
        with contextlib.closing(sqlite3.connect(self.folder / f"{project}.db")) as database:
            rows = database.execute("select metrics from metrics order by step").fetchall()
        logged = [json.loads(row[0]) for row in rows]
        return [one[name] for one in logged if name in one]


@contextlib.contextmanager
def trackio_server(folder: Path) -> Iterator[TrackioServer]:
    """Serve on the loopback until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port(set())
    own = {"TRACKIO_DIR": str(folder / "data"), "TRACKIO_WRITE_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", PROGRAM, HOST, str(port)]
    with served(command, f"http://{HOST}:{port}/", folder / "trackio.log", env=os.environ | own):
        yield TrackioServer(url=f"http://{HOST}:{port}", folder=folder / "data")


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Take connections and say nothing, until the end of the block. Yields the URL."""
    with socket.create_server((HOST, 0), backlog=64) as listener:
        yield f"http://{HOST}:{listener.getsockname()[1]}"
