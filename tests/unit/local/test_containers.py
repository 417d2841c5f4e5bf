"""What the files of a container say about it, whenever they are looked at."""

import json
from pathlib import Path

import pytest
from finetune_operator.local.node import containers
from finetune_operator.local.node.containers import CREATING, Container, ContainerState

GONE = {"pid": 2**22 + 1, "started": 1, "boot": "an earlier one"}
TIMES = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:09Z"}


def test_a_supervisor_that_ends_between_two_looks_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It has written its result: the container is not taken for lost, which would overwrite its exit code."""

    def recall(path: Path) -> None:
        (tmp_path / "result.json").write_text(json.dumps({"exitCode": 86} | TIMES))

    (tmp_path / "supervisor.json").write_text(json.dumps(GONE))
    monkeypatch.setattr(containers, "recall", recall)

    assert Container(tmp_path).state() == ContainerState(
        phase="terminated", reason="Error", exit_code=86, started_at=TIMES["startedAt"], finished_at=TIMES["finishedAt"]
    )


def test_a_supervisor_that_begins_between_two_looks_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It was not there when we looked for it, and has written its name since: nothing of it is killed."""

    def recall(path: Path) -> None:
        path.write_text(json.dumps(GONE))

    monkeypatch.setattr(containers, "recall", recall)

    assert Container(tmp_path).state() == CREATING
    assert not (tmp_path / "result.json").exists()


def test_a_container_whose_supervisor_is_gone_without_a_result_is_lost(tmp_path: Path):
    """And stays so: the next look finds the same."""
    (tmp_path / "supervisor.json").write_text(json.dumps(GONE))
    state = Container(tmp_path).state()

    assert (state.exit_code, state.reason) == (137, "ContainerStatusUnknown")
    assert Container(tmp_path).state() == state
