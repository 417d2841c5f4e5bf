"""`finetune serve-ui`: a real server, asked as browsers and programs ask it."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from finetune_operator.cli.ui.server import MOST_BYTES, PER_MINUTE
from finetune_operator.local.ports import free_port

from tests.cluster.client import eventually


class Server:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: str | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Return status, body (JSON as an object) and headers."""
        request = Request(self.address + path, data=None if body is None else body.encode(), headers=headers)
        try:
            answer = urlopen(request, timeout=60)
        except HTTPError as error:
            answer = error
        with answer:
            text = answer.read().decode()
            found = json.loads(text) if "json" in answer.headers.get("Content-Type", "") else text
            return answer.status, found, {name.lower(): value for name, value in answer.headers.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The calculator, started as a user starts it."""
    port, tmp_path = free_port(set()), tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "finetune_operator", "serve-ui", "--calculator", f"--port={port}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            made = Server(port)
            eventually(lambda: is_up(made), "the server answers", 60)
            yield made
        finally:
            process.terminate()
            process.wait(20)


def is_up(server: Server) -> bool:
    try:
        return server.ask("/healthz")[:2] == (200, "ok\n")
    except OSError:
        return False


def test_a_plan_is_what_the_command_prints(server: Server, tmp_path: Path):
    """The same arithmetic, by GET and by POST."""
    command = [
        sys.executable,
        "-m",
        "finetune_operator",
        "plan",
        "--model=Qwen/Qwen2.5-7B",
        "--examples=800",
        "--pools=built-in",
    ]
    printed = json.loads(subprocess.run([*command, "-o", "json"], capture_output=True, check=True).stdout)
    question = {"model": "Qwen/Qwen2.5-7B", "examples": 800}

    by_get = server.ask("/api/plan?model=Qwen/Qwen2.5-7B&examples=800")
    by_post = server.ask("/api/plan", json.dumps(question))

    assert by_get[:2] == by_post[:2]
    assert (by_get[0], by_get[1]["plan"], by_get[1]["resolved"]) == (200, printed["plan"], printed["resolved"])
    assert by_get[1]["assumed"][0] == "1,000 tokens per row"
    total = sum(part["GiB"] for part in by_get[1]["bar"]["parts"])
    assert total == pytest.approx(float(printed["plan"]["vram"]["totalGiB"]), abs=0.05)


@pytest.mark.parametrize(
    ("question", "status", "said"),
    [
        ("[", 400, "the question is not JSON: Expecting value: line 1 column 2 (char 1)"),
        ("[1]", 400, 'the question must be a JSON object, such as {"model": "Qwen/Qwen2.5-7B"}'),
        ("{}", 400, "the model is missing: set model to a name from /api/models, or config to the config.json of a model"),
        (
            '{"model": "Qwen/Qwen2.5-7B", "modle": 1}', 400,
            "modle: Extra inputs are not permitted",
        ),
        (
            '{"model": "Qwen/Qwen2.5-7B", "spec": {"trainin": {}}}', 400,
            "spec.trainin: unknown field: did you mean spec.training?",
        ),
        (
            '{"model": "/etc/passwd"}', 400,
            "model /etc/passwd is not in the catalogue. Pass a name from `finetune models` or the path of a config.json as --model",
        ),
        (
            '{"model": "Qwen/Qwen2.5-7B", "gpu": "NVIDIA-T4"}', 400,
            "no pool has the GPU type NVIDIA-T4: choose one of NVIDIA-A100-SXM4-80GB, NVIDIA-B200, NVIDIA-H100-80GB-HBM3, "
            "NVIDIA-H200, NVIDIA-L40S, or ask with pools",
        ),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_answered_is_told_why(server: Server, question: str, status: int, said: str):
    """In the words of the command line; a path of this machine is never read."""
    assert server.ask("/api/plan", question)[:2] == (status, {"error": said})


def test_what_does_not_fit_is_told_with_remedies(server: Server):
    """As the command does, with a status of its own."""
    pools = [
        {"name": "small", "gpuType": "NVIDIA-L4", "gpusPerNode": 1, "maxNodes": 1, "pricePerGPUHourUSD": "1.00",
         "node": {"cpus": 8, "memoryGiB": 32, "ephemeralGiB": 400}}
    ]  # fmt: skip
    status, found, _ = server.ask("/api/plan", json.dumps({"model": "meta-llama/Llama-3.1-70B", "pools": pools}))

    assert (status, found) == (
        422,
        {
            "error": "qlora on 1 x L4 needs 50.9 GiB per GPU including the margin, but L4 has 22.0 GiB (weights 36.8, activations 4.7, "
            "overhead 1.7, optimizer 1.5, adapter 0.8, gradients 0.8)\nthis would fit:\n  maxNodes 24 in pool small (lora on 24 x "
            "L4, $319.81)"
        },
    )


def test_memory_of_scenarios(server: Server):
    """One object a line, as `finetune vram` takes them; a bad line spoils no other."""
    status, found, _ = server.ask("/api/vram", '{"id": "a"}\nnot json\n')

    assert (status, [each["id"] for each in found], all("error" in each for each in found)) == (
        200,
        ["a", "line 2"],
        True,
    )


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "(Address already in use): choose another --port"),
        (
            "203.0.113.9",
            "(Cannot assign requested address): choose an address of this machine with --host, or another --port",
        ),
        ("nobody.invalid", "(no such name): choose an address of this machine with --host, or another --port"),
    ],
    ids=["taken", "not of this machine", "unknown"],
)
def test_an_address_that_cannot_be_had_is_told_with_the_way_out(server: Server, host: str, said: str):
    """Nothing claims to serve before it listens."""
    port = server.address.rpartition(":")[2]
    command = [
        sys.executable,
        "-m",
        "finetune_operator",
        "serve-ui",
        "--calculator",
        f"--host={host}",
        f"--port={port}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        f"finetune: cannot listen on {host}, port {port} {said}\n",
    )


def test_without_a_cluster_there_are_no_jobs(server: Server):
    """The page hides its tab; the address of a report says why it is empty."""
    assert server.ask("/api/jobs")[:2] == (200, {"cluster": "", "jobs": [], "use": [], "leftOut": []})
    assert server.ask("/jobs/team/bot")[:2] == (
        404, {"error": "this server shows no jobs: it was started without a cluster"},
    )  # fmt: skip


def test_the_page_loads_nothing_from_elsewhere(server: Server):
    """No address of another host in any file, and a policy that would refuse one."""
    status, page, headers = server.ask("/")
    files = [page, server.ask("/static/ui.js")[1], server.ask("/static/ui.css")[1]]

    assert status == 200
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert [text for text in files if "http://" in text or "https://" in text or "innerHTML" in text] == []


def test_the_page_works_behind_a_prefix(server: Server):
    """A proxy that shows it as https://tools.example.com/finetune/ and cuts the prefix off: all addresses are relative."""
    page, script = server.ask("/")[1], server.ask("/static/ui.js")[1]
    loaded = re.findall(r'(?:href|src)="([^"#][^":]*)"', page)
    asked = re.findall(r'ask\((?:[^"`)]*[?] `[^`]*` : )?"([^"]+)"', script)

    assert (loaded, sorted(asked)) == (
        ["static/ui.css", "static/ui.js"],
        ["api/claims", "api/gpus", "api/jobs", "api/models", "api/plan"],
    )
    assert re.findall(r'["`]/\w[^"`]*', script) == []
    assert [server.ask(f"/{each}")[0] for each in loaded] == [200, 200]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium: apt-get install chromium")
def test_a_browser_shows_the_plan(server: Server, tmp_path: Path):
    """The page asks by itself and shows plan, memory in words for those who do not see the bar, and assumptions."""
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--virtual-time-budget=20000",
    ]
    answer = subprocess.run(
        [*command, "--dump-dom", server.address], capture_output=True, text=True, timeout=120, check=True
    )

    assert 'class="summary">lora on 2 x H100-80GB-HBM3</p>' in answer.stdout
    assert 'role="img" aria-label="GiB of 79.1: weights 15.11, adapter 0.16,' in answer.stdout
    assert "<li>5,000 rows</li>" in answer.stdout
    assert '<option value="Qwen/Qwen2.5-7B">' in answer.stdout
    assert 'aria-busy="false"' in answer.stdout


def test_any_page_may_ask_the_calculator_and_none_may_flood_it(server: Server):
    """CORS for everyone; 64 KiB a question; a minute's worth of questions, then 429 with the time to wait.

    The last test: it uses up the minute.
    """
    page = {"Origin": "https://example.org"}
    status, models, headers = server.ask("/api/models", **page)
    too_long = server.ask("/api/vram", " " * (MOST_BYTES + 1))
    answers = [server.ask("/api/vram", "{}", **page) for _ in range(PER_MINUTE + 1)]

    assert (status, headers["access-control-allow-origin"]) == (200, "*")
    assert "Qwen/Qwen2.5-7B" in {each["name"] for each in models}
    assert too_long[:2] == (413, {"error": "a request may have at most 65,536 bytes"})
    assert (answers[0][0], answers[-1][0]) == (200, 429)
    assert answers[-1][1:2] == (
        {"error": "more than 60 requests in a minute: try again later, or run `finetune serve-ui` yourself"},
    )
    assert answers[-1][2]["retry-after"] == "60"
