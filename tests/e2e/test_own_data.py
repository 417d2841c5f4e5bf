"""The way from a CSV to a model, as the documents show it: each command of that page is typed, in order."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.trainer.tiny import tiny_model

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
FINETUNE = ROOT / ".venv/bin/finetune"


def commands() -> list[list[str]]:
    """Return the commands of the first block of the page, without their comments."""
    page = (ROOT / "docs/start/own-data.md").read_text()
    block = re.search(r"^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert block is not None
    return [shlex.split(line, comments=True) for line in block[1].splitlines()]


def test_every_command_of_the_page_works_in_its_order(tmp_path: Path):
    """A tiny model takes the place of the one on the hub; the rest is as it is written there."""
    home = {"HOME": str(tmp_path), "FINETUNE_STATE": str(tmp_path / "state"), "OMP_NUM_THREADS": "1"}
    cache = os.environ.get("FINETUNE_CACHE", str(Path("~/.cache/finetune-operator").expanduser()))
    environment = (
        {key: value for key, value in os.environ.items() if key != "KUBECONFIG"} | home | {"FINETUNE_CACHE": cache}
    )
    model = tiny_model(tmp_path / "model")
    rows = "".join(f"What is number {n}?,It is the number {n}.\n" for n in range(60))
    (tmp_path / "qa.csv").write_text(f"question,answer\n{rows}")

    def typed(*words: str) -> str:
        done = subprocess.run(
            [str(FINETUNE), *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    said: dict[str, str] = {}
    lines = commands()
    try:
        for name, *words in lines:
            assert name == "finetune"
            extra = ["--model", str(model)] if words[0] == "init" else []
            said[words[0]] = typed(*words, *extra)
            if words[0] == "init":  # two steps are enough to see that it runs
                job = (tmp_path / "job.yaml").read_text()
                (tmp_path / "job.yaml").write_text(
                    job.replace("  # training:\n  #   epochs: 3", "  training:\n    maxSteps: 2")
                )
    finally:
        typed("local", "down", "--delete")

    assert len(lines) == 12
    assert "60 rows: question is the prompt, answer the answer" in said["init"]
    assert "rows and tokens counted in the data on this machine" in said["plan"]
    assert said["submit"].startswith("created default/qa on the local cluster default\n")
    assert "Succeeded" in said["watch"].splitlines()[-1]
    assert "Published" in said["get"]
    assert "training.learningRate: - -> 1e-4" in said["rerun"]
    assert "training.learningRate" in said["compare"]
    assert (tmp_path / "qa-adapter/adapter/adapter_model.safetensors").exists()
