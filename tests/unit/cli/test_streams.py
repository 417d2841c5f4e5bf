"""Where output goes: terminals with and without colours, full disks, files that cannot be written, servers that go away for a moment."""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.servers.http_thread import in_thread
from tests.unit.cli.test_habits import kubeconfig, typed


def test_a_full_disk_is_no_bug():
    """`finetune gpus > file`, on a short and on a long output."""
    for name in ("gpus", "models"):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "finetune_operator", name, "-o", "json"],
                stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
        assert (done.returncode, done.stderr) == (
            1,
            "finetune: the output cannot be written: No space left on device\n",
        )


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path):
    """A folder that is not there, of every command that writes a file; names and comments may need UTF-8."""
    (tmp_path / "lora.yaml").write_text(
        "base_model: org/m\noutput_dir: gr\u00f6\u00dfe\ndatasets: [{path: org/data, type: alpaca}]\n", "utf-8"
    )
    (tmp_path / "qa.csv").write_text("question,answer\nWhat is it?,A test.\nWhy is it?,For us.\nWho is it?,Me.\n")
    gone, ascii_only = (
        str(tmp_path / "gone" / "job.yaml"),
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    said = [
        typed("import", str(tmp_path / "lora.yaml"), "--to", gone),
        typed("init", str(tmp_path / "qa.csv"), "--to", gone),
    ]

    assert said == [(1, "", f"finetune: {gone} cannot be written: No such file or directory\n")] * 2
    assert typed("import", str(tmp_path / "lora.yaml"), "--to", str(tmp_path / "job.yaml"), **ascii_only)[0] == 0
    assert "gr\u00f6\u00dfe becomes" in (tmp_path / "job.yaml").read_text(encoding="utf-8")


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Run `finetune ARGUMENTS` on a terminal of its own; return what that shows."""
    here, there = os.openpty()
    command = [sys.executable, "-m", "finetune_operator", *arguments]
    with subprocess.Popen(command, stdout=there, stderr=subprocess.STDOUT, env=os.environ | environment):
        os.close(there)
        shown = b""
        with suppress(OSError):  # Linux tells the end of a terminal so
            while block := os.read(here, 65536):
                shown += block
    os.close(here)
    return shown.decode()


@pytest.mark.parametrize(
    ("environment", "colours"),
    [
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb", "NO_COLOR": ""}, False),
    ],
)
def test_colours_are_for_terminals_that_have_them(environment: dict[str, str], colours: bool):
    """Emacs and many CI runners are dumb terminals."""
    shown = on_a_terminal("plan", "--model=Llama-3.1-8B", "--pools=built-in", **environment)

    assert shown.startswith("\x1b[1mLlama-3.1-8B: " if colours else "Llama-3.1-8B: lora on ")
    assert ("\x1b" in shown) == colours


class Restarting(BaseHTTPRequestHandler):
    """An API server that says that a job runs, then answers nothing for a moment, and then says that it has succeeded."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self) -> None:
        """Answer one request."""
        type(self).asked += 1
        if self.asked in (2, 3):
            self.close_connection = True
            return
        condition = {
            "type": "Succeeded", "status": "Unknown" if self.asked == 1 else "True", "reason": "Published",
            "message": "", "observedGeneration": 1, "lastTransitionTime": "2026-11-23T10:00:00Z",
        }  # fmt: skip
        job = {
            "metadata": {
                "name": "bot", "namespace": "team-a", "uid": "u", "generation": 1, "resourceVersion": str(self.asked),
                "creationTimestamp": "2026-11-23T10:00:00Z",
            },
            "spec": {
                "model": {"source": "hf://org/model"}, "datasets": [{"source": "s3://team-a/b"}], "output": {"destination": "s3://team-a/c"},
            },
            "status": {"phase": "Training" if self.asked == 1 else "Succeeded", "conditions": [condition]},
        }  # fmt: skip
        content = json.dumps({"metadata": {"resourceVersion": "1"}, "items": [job]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_a_watch_of_all_jobs_bears_an_api_server_that_restarts(tmp_path: Path):
    """As that of one job does. Each line has its date and zone, for a run takes days and may be read elsewhere."""
    with in_thread(ThreadingHTTPServer(("127.0.0.1", 0), Restarting)) as place:
        code, out, said = typed("watch", "-A", "--kubeconfig", kubeconfig(tmp_path, f"http://{place}", "good"))

    assert (said, code) == ("", 0)
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "TIME", line) for line in out.splitlines()] == [
        "TIME  team-a/bot  Training",
        "TIME  team-a/bot  Succeeded",
    ]
