"""What several files of the trainer's tests start from."""

from collections.abc import Callable
from pathlib import Path

import pytest
from finetune_contract import PreflightConfig

from tests.trainer.data_inputs import a_config, chats, jsonl, model


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
