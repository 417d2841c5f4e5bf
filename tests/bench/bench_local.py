"""How long a warm start of the local cluster takes, from `up` to a Pod that the scheduler has bound.

    python tests/bench/bench_local.py [RUNS]

Binaries must be in the cache. Each run is one fresh start (new certificates, empty etcd) and one restart on kept data.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from finetune_operator.local.binaries import KUBECTL
from finetune_operator.local.components import Options
from finetune_operator.local.control_plane import down, running, up
from finetune_operator.local.processes import ProcessId, memory_mib
from finetune_operator.local.provide import provide
from finetune_operator.local.state import ClusterState

POD = """{"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-", "namespace": "default"}, "spec":
{"restartPolicy": "Never", "containers": [{"name": "c", "image": "x", "command": ["true"]}]}}"""


CPU: list[float] = []
"""CPU seconds of all processes of a cluster when `up` returned: unlike the time it took, the same on a busy machine."""


def cpu_seconds(process: ProcessId) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kubectl(state: ClusterState, *arguments: str, given: str = "") -> str:
    command = [provide([KUBECTL], say=print)["kubectl"], f"--kubeconfig={state.kubeconfig}", *arguments]
    command.append(f"--cache-dir={state.root / 'kubectl-cache'}")
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout.strip()


def started(state: ClusterState) -> tuple[float, float, float]:
    """Start a cluster; return seconds until `up` returned, until a Pod was bound, and until it had run."""
    began = time.monotonic()
    up(state, Options(), say=lambda _: None)
    returned = time.monotonic() - began
    CPU.append(sum(cpu_seconds(process) for process in running(state).values()))
    pod = kubectl(state, "create", "-f", "-", "-o", "name", given=POD)
    kubectl(state, "wait", pod, "--for=condition=PodScheduled", "--timeout=60s")
    bound = time.monotonic() - began
    kubectl(state, "wait", pod, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    return returned, bound, time.monotonic() - began


def show(what: str, rows: list[tuple[float, float, float]]) -> None:
    for name, values in zip(("up returned", "Pod bound", "Pod done"), zip(*rows, strict=True), strict=True):
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{what:<8} {name:<12} median {middle:5.1f} s   {low:5.1f} to {high:5.1f}   of {len(values)} runs")


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    fresh, warm, stops = [], [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            state = ClusterState(Path(folder) / "clusters" / "bench")
            try:
                fresh.append(started(state))
                down(state, say=lambda _: None)
                warm.append(started(state))
                memory = {name: memory_mib(process) for name, process in running(state).items()}
            finally:
                began = time.monotonic()
                down(state, say=lambda _: None)
                stops.append(time.monotonic() - began)
    show("fresh", fresh)
    show("restart", warm)
    print(f"down              median {statistics.median(stops):5.1f} s")
    print(f"CPU of a start    median {statistics.median(CPU):5.1f} s   load average now {os.getloadavg()[0]:.1f}")
    print("memory            " + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in memory.items()))


if __name__ == "__main__":
    main()
