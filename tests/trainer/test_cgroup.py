"""What the kernel says about the container, in both versions of cgroups."""

from pathlib import Path

import pytest
from finetune_trainer.process.cgroup import cpu_limit, ran_out_of_memory

pytestmark = pytest.mark.trainer


def cgroup(root: Path, files: dict[str, str]) -> Path:
    """Write the files of a cgroup."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("file", "before"), [("memory.events", "low 0\nmax 12\noom 1\n"), ("memory/memory.oom_control", "under_oom 0\n")]
)
def test_a_kill_by_the_memory_limit_is_told_from_others(tmp_path: Path, file: str, before: str) -> None:
    """The cgroup counts the processes that the kernel killed."""
    assert not ran_out_of_memory(tmp_path)
    assert not ran_out_of_memory(cgroup(tmp_path, {file: f"{before}oom_kill 0\n"}))
    assert ran_out_of_memory(cgroup(tmp_path, {file: f"{before}oom_kill 1\n"}))


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "350000 100000\n"}, 3.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_limit_of_cores_is_quota_over_period(tmp_path: Path, files: dict[str, str], cores: float | None) -> None:
    """Nobody limits a container without a quota."""
    assert cpu_limit(cgroup(tmp_path, files)) == cores
