"""What people bring along from other tools and machines: names of commands, terminals of ASCII only, paths with ~, expired logins."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from finetune_operator.cli import gpus, models
from finetune_operator.cli.get_text import wrapped
from finetune_operator.cli.log_reading import shown
from finetune_operator.cli.tables import fitted
from finetune_operator.planning.models.catalogue import models as catalogue
from finetune_operator.planning.pools.gpus import GPUS

from tests.servers.http_thread import in_thread

JOB = """apiVersion: finetune.dev/v1alpha1
kind: FineTuneJob
metadata: {name: tiny}
spec:
  model: {source: s3://models/tiny}
  datasets: [{source: s3://models/rows.jsonl, columns: {prompt: %s, completion: answer}}]
  output: {destination: s3://models/out}
"""


def typed(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run `finetune ARGUMENTS`; return exit code, stdout, stderr."""
    command = [sys.executable, "-m", "finetune_operator", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("word", "ours"), [("ps", "get"), ("status", "get"), ("launch", "submit"), ("stop", "suspend"), ("help", "-h")]
)
def test_the_words_of_other_tools_lead_to_ours(word: str, ours: str):
    """By spelling, `ps` is nearest to `gpus`, and `stop` to `top`."""
    code, _, said = typed(word)

    assert (code, said.splitlines()[-1]) == (2, f"Error: No such command '{word}'. Use `finetune {ours}`.")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("plan -f a.yaml -f b.yaml", "-f is given 2 times, and takes one value."),
        ("plan --model a --model b", "--model is given 2 times, and takes one value."),
        ("get -n a -nb", "--namespace is given 2 times, and takes one value."),
        ("plan a.yaml", "A file is named with -f: `finetune plan -f a.yaml`."),
        ("submit -f a.yaml", "No such option: -f. The file is named alone: `finetune submit FILE`."),
        ("submit --dry-run a.yaml", "No such option: --dry-run. Use `finetune plan -f FILE`."),
        ("get --json", "No such option: --json. Use -o json."),
        ("get --format=json", "No such option: --format. Use -o json or -o yaml."),
        ("get -w", "No such option: -w. Use `finetune watch`."),
        ("get --nonsense", "No such option: --nonsense"),
        ("help plan", "No such command 'help'. Use `finetune plan -h`."),
    ],
)
def test_the_options_of_other_tools_lead_to_ours(line: str, said: str):
    """And of an option that is given twice none is dropped."""
    code, _, words = typed(*line.split())

    assert (code, words.splitlines()[-1]) == (2, f"Error: {said}")


def test_options_that_may_stand_twice_are_kept():
    """--set changes one field each time; flags say the same twice; what kubectl is asked is kubectl's own affair."""
    lines = ("rerun x --set a=1 --set b=2", "get -A -A", "local kubectl get pods -w --json")
    said = [typed(*line.split(), KUBECONFIG="", HOME="/nowhere")[2] for line in lines]

    assert ["cluster" in each and "running" in each for each in said] == [True, True, True]


def test_a_manifest_is_not_data():
    """It would be asked for a model that it names."""
    assert typed("data", "preview", "job.yaml") == (
        1,
        "",
        "finetune: job.yaml is not data: a job is named with -f: `finetune data preview -f job.yaml`\n",
    )


def test_output_that_a_terminal_cannot_show_is_escaped(tmp_path: Path):
    """LC_ALL=C in a container or a cron job."""
    (tmp_path / "a.yaml").write_text(JOB % "frage")
    (tmp_path / "b.yaml").write_text(JOB % "gr\u00f6\u00dfe")

    code, out, said = typed(
        "diff", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"), PYTHONIOENCODING="ascii", PYTHONUTF8="0"
    )

    assert (code, said) == (0, "")
    assert "gr\\xf6\\xdfe" in out


def test_a_home_folder_that_the_shell_leaves_alone(tmp_path: Path):
    """`--file=~/job.yaml`: bash expands ~ only at the beginning of a word."""
    (tmp_path / "job.yaml").write_text(JOB % "question")
    code, out, said = typed("plan", "--file=~/job.yaml", "--pools=built-in", HOME=str(tmp_path))

    assert (code, out) == (1, "")
    assert said.startswith("finetune: model models/tiny is not in the catalogue")


class Server(BaseHTTPRequestHandler):
    """An API server with one job, for those who have the token `good`."""

    def do_GET(self) -> None:
        """Answer one request."""
        item = {"metadata": {"name": "support-bot", "namespace": "default"}}
        listed = {"metadata": {"resourceVersion": "1"}, "items": [item]}
        missing = {"message": "not found", "details": {"kind": "finetunejobs"}}
        refused = self.headers["Authorization"] != "Bearer good"
        is_list = self.path.partition("?")[0].endswith("/finetunejobs")
        status, body = (401, {"message": "Unauthorized"}) if refused else (200, listed) if is_list else (404, missing)
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a running server."""
    with in_thread(ThreadingHTTPServer(("127.0.0.1", 0), Server)) as place:
        yield f"http://{place}"


def kubeconfig(folder: Path, address: str, token: str) -> str:
    """Write a kubeconfig and return its path."""
    path = folder / "config"
    path.write_text(
        json.dumps(
            {
                "current-context": "x",
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": address}}],
                "users": [{"name": "u", "user": {"token": token}}],
            }
        )
    )
    return str(path)


def test_a_login_that_has_expired_is_told_with_what_to_do(address: str, tmp_path: Path):
    """The server says no more than `Unauthorized`."""
    config = kubeconfig(tmp_path, address, "old")

    assert typed("get", "--kubeconfig", config) == (
        1,
        "",
        f"finetune: the cluster of {config} does not accept your credentials (Unauthorized): log in again, or choose others with "
        "--kubeconfig or --context\n",
    )


@pytest.mark.parametrize(
    ("name", "question"),
    [("suport-bot", ": did you mean support-bot?"), ("supp", ": did you mean support-bot?"), ("other", "")],
)
def test_a_job_that_is_not_there_is_asked_back(name: str, question: str, address: str, tmp_path: Path):
    """Nothing is done to the one that may be meant."""
    config = kubeconfig(tmp_path, address, "good")

    assert typed("delete", name, "--kubeconfig", config) == (
        1,
        "",
        f"finetune: FineTuneJob {name} not found in namespace default{question}\n",
    )


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("entries", [gpus.table(GPUS), models.table(catalogue())], ids=["gpus", "models"])
def test_a_catalogue_fits_a_terminal(entries: list[list[str]], columns: int):
    """Columns are left out, and no figure is cut."""
    lines = fitted(entries, columns, shorten="", drop=(*gpus.DROPPED, *models.DROPPED))

    assert max(map(len, lines)) <= columns
    assert len(lines) == len(entries)
    assert [line.split()[0] for line in lines[1:]] == [row[0] for row in entries[1:]]


def test_a_log_holds_what_is_for_people():
    """The outcome at its end, a thousand characters of JSON, is for the operator."""
    log = 'step 1\n{"outcome":"Succeeded","reason":"Published"}\n'

    assert (shown(log, progress=False), shown(log, progress=True)) == ("step 1", log.strip())


def test_a_job_in_words_fits_a_terminal():
    """Each line goes on under its value; a pipe gets whole lines."""
    text = "Evaluation  6 % better on 20 held-out rows: loss 6.23 before, 5.84 after\n\nConditions\n  Planned      True     Planned"

    assert wrapped(text, 0) == text
    assert wrapped(text, 50) == (
        "Evaluation  6 % better on 20 held-out rows: loss\n            6.23 before, 5.84 after\n\nConditions\n"
        "  Planned      True     Planned"
    )
