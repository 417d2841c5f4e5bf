"""Commands under test see no cluster of the machine that they run on."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Neither a kubeconfig nor a local cluster."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("FINETUNE_CLUSTER", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FINETUNE_STATE", str(home / "state"))
    return home
