"""What the tests of the engines start from."""

import pytest


@pytest.fixture
def local_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """file:// may be used, as on the local cluster."""
    monkeypatch.setenv("FINETUNE_ALLOW_FILE", "1")
