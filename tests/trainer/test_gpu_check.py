"""The check on a GPU runs here on the smallest sizes, so that it cannot rot: every part, its records, its deadline."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.gpu.card import Late, deadline

ROOT = Path(__file__).parents[2]
NAMES = {
    "attention": 9,
    "planned": 5,
    "speed": 8,
    "loading": 3,
    "learning": 2,
    "offload": 3,
    "lifecycle": 1,
}
"""Records of each part on a CPU."""


@pytest.mark.trainer
def test_every_part_of_the_check_runs(tmp_path: Path) -> None:
    """Each part ends well and writes its records; losses of our trainer and of the plain script are the same; a resume loses nothing."""
    out = tmp_path / "check.jsonl"
    command = [sys.executable, "-m", "tests.gpu", "--reduced", "--out", str(out)]
    ended = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    records = [json.loads(line) for line in out.read_text().splitlines()]
    ends = {one["part"]: one["ended"] for one in records if "ended" in one}

    assert (ended.returncode, ends) == (0, dict.fromkeys(NAMES, "done")), ended.stderr[-3000:]
    assert {part: sum(one["part"] == part and "name" in one for one in records) for part in NAMES} == NAMES
    assert [one for one in records if "error" in one] == []
    by_name = {one["name"]: one for one in records if "name" in one}
    for rows in ("8B lora, padded rows", "8B lora, packed"):
        plain, ours = by_name[f"{rows}: plain TRL"], by_name[f"{rows}: ours"]
        assert ours["losses"] == pytest.approx(plain["losses"], abs=1e-5)
    assert by_name["leak, dense mask"]["largestChange"] == 0.0
    resumed = by_name["stopped and resumed"]
    assert resumed["exitCodes"] == [0, 85, 0]
    assert resumed["resumedLosses"] == resumed["wholeLosses"]


def swallow() -> None:
    """Work on for ever, whatever is raised, as transformers' loader does."""
    while True:
        try:
            time.sleep(10)
        except Exception:  # noqa: BLE001 - that is the point
            continue


def test_a_part_ends_at_its_deadline() -> None:
    """Though a library swallows every Exception."""
    with pytest.raises(Late), deadline(0.05):
        swallow()


def test_without_a_gpu_the_check_says_so() -> None:
    """It must not pass, nor write anything."""
    command = [sys.executable, "-m", "tests.gpu", "--out", "/nonexistent/check.jsonl"]
    ended = subprocess.run(
        command, check=False, cwd=ROOT, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True
    )

    assert ended.returncode == 2
    assert "gpu-check: PyTorch sees no NVIDIA GPU here; --reduced tries the check itself on the CPU" in ended.stderr
