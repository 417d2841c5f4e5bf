"""`finetune delete --with-checkpoints`: what a deleted job kept is removed, and nothing of any other job."""

import json
from pathlib import Path

import pytest
from finetune_trainer.__main__ import main

FILES = {
    "attempt-0-step-8/COMPLETE": "mine",
    "attempt-0-step-8/weights": "x" * 100,
    "attempt-0-step-9/weights": "unfinished",
    "attempt-1-step-4/COMPLETE": "theirs",
    "best-attempt-0-step-8/COMPLETE": "mine",
    "result-attempt-0/COMPLETE": "mine",
    "result-attempt-1/COMPLETE": "theirs",
    "prepared-0123456789abcdef/train.arrow": "rows",
    "preview-0123456789abcdef.txt": "rows",
    "baseline.json": "{}",
    "logs/my-uid/attempt-0/replica-0-0.log": "log",
    "logs/their-uid/attempt-0/replica-0-0.log": "log",
    "notes.txt": "somebody's",
}


def marker(digest: str) -> str:
    return json.dumps(
        {
            "runDigest": digest,
            "attempt": 0,
            "step": 8,
            "sizeBytes": 1,
            "worldSize": 1,
            "zeroStage": 0,
            "turn": 1,
            "files": {},
        }
    )


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint destination with files of two runs and of a user."""
    monkeypatch.setenv("FINETUNE_ALLOW_FILE", "1")
    for name, text in FILES.items():
        file = tmp_path / "kept" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(marker(text) if name.endswith("COMPLETE") else text)
    return tmp_path / "kept"


def left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def held_by(folder: Path, uid: str) -> None:
    (folder / "holder.json").write_text(json.dumps({"runDigest": "mine", "uid": uid, "attempt": 0, "turn": 1}))


def test_what_the_job_kept_is_gone(kept: Path, capsys: pytest.CaptureFixture[str]):
    """Its checkpoints, unfinished ones, its best weights, rows and logs; another run's and a user's file stay."""
    held_by(kept, "my-uid")

    assert main(["forget", f"file://{kept}", "my-uid", "mine"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert (found["checkpoints"], found["takenOver"], found["bytes"] > 100) == (3, False, True)
    assert left(kept) == [
        "attempt-1-step-4/COMPLETE", "logs/their-uid/attempt-0/replica-0-0.log", "notes.txt", "result-attempt-1/COMPLETE",
    ]  # fmt: skip


def test_a_job_that_took_the_place_over_keeps_all_but_the_logs(kept: Path, capsys: pytest.CaptureFixture[str]):
    """It was applied again under a new uid and continues from these checkpoints."""
    held_by(kept, "new-uid")
    before = left(kept)

    assert main(["forget", f"file://{kept}", "my-uid", "mine"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert (found["checkpoints"], found["takenOver"]) == (0, True)
    assert left(kept) == [name for name in before if not name.startswith("logs/my-uid")]
