"""What several files of the trainer's tests start from."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_contract import Chat, PreflightConfig
from safetensors.numpy import save_file

from tests.trainer.data_inputs import a_config, chats, jsonl, llama_tensors, model, preflight_refusal
from tests.trainer.registries import front, made_in_parts, place, registry, repository

__all__ = ["front", "made_in_parts", "place", "registry", "repository"]


@pytest.fixture
def local_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """file:// may be used, as on the local cluster."""
    monkeypatch.setenv("FINETUNE_ALLOW_FILE", "1")


@pytest.fixture
def job(tmp_path: Path, local_files: None) -> PreflightConfig:
    """A job for preflight whose model, data and output are folders here."""
    base = model(tmp_path / "model")
    data = jsonl(tmp_path / "data.jsonl", [*chats(99), chats(1)[0]])
    return a_config(tmp_path, base=base, data=data)


@pytest.fixture
def workspaces(tmp_path: Path) -> Callable[[], Path]:
    """A fresh workspace for each Pod of preflight."""
    numbers = iter(range(100))
    return lambda: tmp_path / f"workspace-{next(numbers)}"


@pytest.fixture
def refused(job: PreflightConfig, tmp_path: Path, workspaces: Callable[[], Path]) -> Callable[..., tuple[str, str]]:
    """Changes the tensors, the configuration or the files of the small Llama and returns how it is refused; its place is MODEL."""

    def refusal(
        tensors: Callable[[dict[str, Any]], dict[str, Any]] = dict,
        files: Callable[[Path], Any] = str,
        chat: Chat | None = None,
        **config: Any,
    ) -> tuple[str, str]:
        folder = model(tmp_path / "model", **config)
        save_file(tensors(llama_tensors()), folder / "model.safetensors")
        files(folder)
        reason, message = preflight_refusal(replace(job, chat=chat or job.chat), workspaces())
        return reason, message.replace(f"file://{folder}", "MODEL")

    return refusal
