"""A running vLLM server on the loopback, and what it answers. Called by the tests."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_operator.local.ports import HOST, free_port

from tests.serving.install import program

START_SECONDS = 300


@dataclass(frozen=True)
class Vllm:
    """Where it listens."""

    url: str

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        """Return the status and the text of an answer."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=180) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def load(self, name: str, folder: Path) -> str:
        """Load an adapter; return why it was refused, empty where it was not."""
        status, text = self.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
        return "" if status == 200 else text

    def log_probabilities(self, model: str, tokens: list[int]) -> list[float]:
        """Return those of a prompt's tokens after the first."""
        body = {"model": model, "prompt": tokens, "max_tokens": 1, "prompt_logprobs": 0, "temperature": 0}
        status, text = self.post("/v1/completions", body)
        assert status == 200, text
        told = json.loads(text)["choices"][0]["prompt_logprobs"]
        return [next(iter(one.values()))["logprob"] for one in told[1:]]


@contextmanager
def vllm(model: Path, folder: Path, *options: str) -> Iterator[Vllm]:
    """Serve a model in float32 until the end of the block."""
    port = free_port(set())
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_HOST_IP": HOST,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "HOME": str(folder / "home"),
    }  # fmt: skip
    command = [
        str(program()), "serve", str(model), "--served-model-name", "base", "--host", HOST, "--port", str(port), "--dtype",
        "float32", "--enforce-eager", "--max-model-len", "128", "--max-num-seqs", "2", *options,
    ]  # fmt: skip
    log = folder / "vllm.log"
    with (
        log.open("w") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment) as server,
    ):
        try:
            wait(f"http://{HOST}:{port}/health", server, log)
            yield Vllm(url=f"http://{HOST}:{port}")
        finally:
            server.terminate()
            server.wait(60)


def wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-4000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-4000:])
