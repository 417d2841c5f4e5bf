"""What the kernel grants this container and what it did to it, from cgroups of version 2 or 1. Called by entry."""

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
"""A container sees its own cgroup here."""


def ran_out_of_memory(root: Path = ROOT) -> bool:
    """Say whether the kernel killed a process of this container for its memory."""
    counters = (root / "memory.events", root / "memory/memory.oom_control")
    lines = [line.split() for path in counters if path.is_file() for line in path.read_text().splitlines()]
    return any(line[0] == "oom_kill" and int(line[1]) > 0 for line in lines)


def cpu_limit(root: Path = ROOT) -> float | None:
    """Return the cores that this container may use, None where nobody limits it."""
    both = root / "cpu.max"
    if both.is_file():
        quota, period = both.read_text().split()
    else:
        parts = [root / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period")]
        if not all(path.is_file() for path in parts):
            return None
        quota, period = (path.read_text().strip() for path in parts)
    return None if quota in ("max", "-1") else int(quota) / int(period)
