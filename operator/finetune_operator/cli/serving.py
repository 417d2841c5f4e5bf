"""The server of a published result on this machine, until it is stopped. Called by serve."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from finetune_contract.engines import VLLM_OWN_STOPS, max_lora_rank

from finetune_operator.api.published import ArtifactStatus
from finetune_operator.cli.published import Here, here, published_as
from finetune_operator.errors import FinetuneError
from finetune_operator.manifests.run_config import model

HOST = "127.0.0.1"
GGUF = ("gguf-q8_0", "gguf-q4_k_m", "gguf-f16")
LLAMA_CPP = "finetune-operator[gguf]"


def serve(name: str, options: tuple[str, str, str], claims: str, engine: str, port: int) -> int:
    """Serve until the server ends; return the exit code. Raises FinetuneError where nothing here can serve the result."""
    with here(name, options, claims, "serve") as found:
        gguf = published_as(found.job, *GGUF) if engine != "vllm" else None
        vllm = shutil.which("vllm")
        if gguf is not None and importlib.util.find_spec("xllamacpp") is not None:
            command = llama_cpp_command(found, gguf, port)
        elif vllm is not None and engine != "llama-cpp":
            command = vllm_command(found, vllm, port)
        else:
            raise FinetuneError(nothing_serves(name, engine, gguf, vllm))
        return until_stopped(command, found.environment)


def llama_cpp_command(found: Here, gguf: ArtifactStatus, port: int) -> list[str]:
    """Return the command that serves a GGUF."""
    (file,) = found.brought(gguf).glob("*.gguf")
    return [sys.executable, "-m", "finetune_trainer", "serve", str(file), found.job.metadata.name, str(port)]


def vllm_command(found: Here, vllm: str, port: int) -> list[str]:
    """Return the command that serves a whole model, or an adapter that vLLM loads. Raises FinetuneError for another one."""
    job = found.job
    if (whole := published_as(job, "merged", "model")) is not None:
        served = [str(found.brought(whole)), "--served-model-name", job.metadata.name]
    else:
        served = adapter_options(found, published_as(job, "adapter"))
    return [vllm, "serve", *served, "--host", HOST, "--port", str(port)]


def adapter_options(found: Here, adapter: ArtifactStatus | None) -> list[str]:
    """Return vLLM's options for an adapter on its base."""
    job, base = found.job, model(found.job.spec.model).location.uri
    if adapter is None or not adapter.servable.startswith("vllm"):
        said = adapter.servable if adapter is not None else "not published"
        raise FinetuneError(
            f"vLLM does not load the adapter of {job.metadata.name} ({said}): add merged to output.exports"
        )
    if not base.startswith(("hf://", "file://")):
        raise FinetuneError(f"the base model at {base} is not on this machine: add merged to output.exports")
    revision = ["--revision", adapter.base_revision] if base.startswith("hf://") and adapter.base_revision else []
    rank = max_lora_rank(adapter.lora_rank)
    folder = found.brought(adapter)
    stops = [VLLM_OWN_STOPS, str(folder)] if VLLM_OWN_STOPS in adapter.servable else []
    return [
        base.removeprefix("hf://").removeprefix("file://"), *revision, "--enable-lora", "--max-lora-rank", str(rank),
        "--lora-modules", f"{job.metadata.name}={folder}", *stops,
    ]  # fmt: skip


def nothing_serves(name: str, engine: str, gguf: ArtifactStatus | None, vllm: str | None) -> str:
    """Say what is missing on this machine, or in the job."""
    if gguf is not None:
        return f"llama.cpp is not installed: pip install '{LLAMA_CPP}'"
    if engine == "vllm" and vllm is None:
        return "vLLM is not installed: there is no command vllm on PATH"
    also = "" if engine == "llama-cpp" else ", or install vLLM"
    again = "delete the job and apply it again (nothing is trained again)"
    return f"{name} has published no GGUF: add gguf-q8_0 to output.exports, {again}{also}"


def until_stopped(command: list[str], environment: dict[str, str]) -> int:
    """Run a server until it ends or Ctrl-C, which it hears too."""
    if Path(command[0]).name == "vllm":
        environment = environment | {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with subprocess.Popen(command, env=dict(os.environ) | environment, preexec_fn=hears_interrupts) as server:  # noqa: PLW1509
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        code = server.wait()
    return 1 if code > 0 else 0


def hears_interrupts() -> None:
    """Give the server back what this process ignores."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
