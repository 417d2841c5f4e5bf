"""What a Pod leaves of itself beside the checkpoints: its log and its metrics, and how they are read again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from finetune_contract import Location, Progress, log_folder, progress_line
from finetune_trainer.journal import stored
from finetune_trainer.journal.keeper import Keeping
from finetune_trainer.journal.parts import Parts

from tests.trainer.running import container
from tests.trainer.tiny import a_run, conversations, tiny_model

pytestmark = pytest.mark.trainer


@pytest.fixture(autouse=True)
def _files_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ALLOW_FILE", "1")


def read(folder: Path) -> dict[str, str]:
    """Return the files of a folder by name."""
    return {path.name: path.read_text() for path in sorted(folder.glob("*"))}


def test_a_long_text_is_cut_into_parts_at_line_ends(tmp_path: Path):
    """A part may exceed the limit by one call's lines; parts that are full never change again."""
    parts = Parts(tmp_path, "metrics", ".jsonl", part_bytes=7)
    for line in (b"first\n", b"second\n", b"third\n"):
        parts.append(line)

    assert read(tmp_path) == {"metrics-0000.jsonl": "first\nsecond\n", "metrics-0001.jsonl": "third\n"}


def test_what_is_printed_is_passed_on_and_kept(tmp_path: Path):
    """Of this process, of its children, on both streams; progress reports are only passed on."""
    report = progress_line(Progress(phase="training", step=1, total_steps=2))
    script = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from finetune_trainer.journal.transcript import Transcript\n"
        f"transcript = Transcript(Path({str(tmp_path)!r}), 'replica-0')\n"
        "print('early', flush=True)\n"
        "child = subprocess.Popen(['sh', '-c', 'echo child; echo complaint >&2'])\n"
        "transcript.follow()\n"
        "child.wait()\n"
        f"print({report!r})\n"
        "sys.stdout.write('no end')\n"
        "transcript.end()\n"
        "print('after')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == f"early\nchild\ncomplaint\n{report}\nno endafter\n"
    assert read(tmp_path) == {"replica-0-0000.log": "early\nchild\ncomplaint\nno end\n"}


def test_only_what_has_grown_is_stored_again_and_secrets_are_blotted_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A part that is full is written once."""
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    parts, there = Parts(tmp_path / "journal", "replica-0", ".log", part_bytes=5), tmp_path / "there"
    there.mkdir()
    keeping = Keeping(tmp_path / "journal", Location(uri=f"file://{there}"), log_folder("u-1", 0))
    parts.append(b"the token is hf_verysecret\n")
    first = keeping.store()
    kept = there / "logs/u-1/attempt-0"
    os.utime(kept / "replica-0-0000.log", (1, 1))
    parts.append(b"more\n")
    second = keeping.store()

    assert (first, second) == ("", "")
    assert read(kept) == {"replica-0-0000.log": "the token is <HF_TOKEN>\n", "replica-0-0001.log": "more\n"}
    assert (kept / "replica-0-0000.log").stat().st_mtime == 1


def test_a_place_that_cannot_be_written_costs_a_sentence(tmp_path: Path):
    """The run goes on; the sentence is printed once by the process that stores."""
    Parts(tmp_path / "journal", "replica-0", ".log").append(b"line\n")
    (tmp_path / "there").write_text("a file where a folder should be")
    keeping = Keeping(tmp_path / "journal", Location(uri=f"file://{tmp_path}/there"), log_folder("u-1", 0))

    failure = keeping.store()

    assert failure.startswith(f"the log could not be stored at file://{tmp_path}/there: ")


def test_a_run_leaves_its_log_and_every_step_beside_the_checkpoints(tmp_path: Path):
    """The log ends with the outcome; the history has each step's loss and each evaluation."""
    data = conversations(tmp_path / "train.jsonl", rows=40)
    run = a_run(tmp_path, model=tiny_model(tmp_path / "model"), data=data, every_steps=4)
    with container(run, tmp_path / "pod") as pod:
        code, _outcome = pod.wait()
    kept = tmp_path / "out/.checkpoints/logs/u-1/attempt-0"
    printed = [line for line in pod.log.read_text().splitlines() if not line.startswith('{"finetune":"progress"')]
    history = [json.loads(line) for line in (kept / "metrics-0000.jsonl").read_text().splitlines()]

    assert code == 0
    assert (kept / "replica-0-0000.log").read_text().splitlines() == printed
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [entry["step"] for entry in history if "eval_loss" in entry] == [4]
    assert {"time", "step", "loss", "grad_norm", "learning_rate"} <= history[0].keys()


def test_a_kept_log_is_printed_part_by_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Another replica's is left out; where nothing was kept, the exit code says so."""
    folder = tmp_path / "logs/u-1/attempt-0"
    for name, text in {
        "replica-1-0001.log": "two\n",
        "replica-1-0000.log": "one\n",
        "replica-10-0000.log": "x\n",
    }.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    code = stored.main(f"file://{tmp_path}", "logs/u-1/attempt-0", "replica-1")
    printed = capsys.readouterr().out

    assert (code, printed) == (0, "one\ntwo\n")
    assert stored.main(f"file://{tmp_path}", "logs/u-2/attempt-0", "replica-1") == stored.NOTHING
