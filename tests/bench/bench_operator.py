"""How many jobs an operator carries: a burst of one-Pod jobs with a stand-in kubelet, all on this machine.

Prints jobs per second, latency from create to Planned and to Succeeded, writes per job, and the operator's CPU time.
Run: `python tests/bench/bench_operator.py [--jobs 200] [--kubeconfig FILE]`; without a kubeconfig a cluster is started.
One run is one sample: on a shared machine read it as plus or minus a quarter.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

from finetune_operator.local.components import Options  # noqa: E402  # the path comes first
from finetune_operator.local.control_plane import down, up  # noqa: E402
from finetune_operator.local.state import ClusterState  # noqa: E402

from tests.cluster.client import FINETUNE, Client, eventually  # noqa: E402
from tests.cluster.plays import a_job, a_pool  # noqa: E402

NAMESPACE = "bench"
PORT = 23999
CREATORS = 8


def quiet(_: str) -> None:
    """The start-up of the cluster is not what is measured."""


@contextlib.contextmanager
def cluster(kubeconfig: Path | None, folder: Path) -> Iterator[Path]:
    """Use a cluster that is there, or start one."""
    if kubeconfig is not None:
        yield kubeconfig
        return
    state = ClusterState(folder / "clusters" / "bench")
    up(state, Options(node=False), say=quiet)
    try:
        yield state.kubeconfig
    finally:
        down(state, say=quiet)


@contextlib.contextmanager
def program(*arguments: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run one of our programs until the block ends."""
    command = [sys.executable, "-m", *arguments]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sink, stderr=sink, cwd=REPOSITORY)
    try:
        eventually(lambda: "ready" in log.read_text() or process.poll() is not None, f"{arguments[0]} is ready")
        yield process
    finally:
        process.terminate()
        process.wait(timeout=15)


def apply_crds(client: Client, kubeconfig: Path) -> None:
    """Install the CRDs and the pool."""
    from finetune_operator.local.binaries import KUBECTL  # noqa: PLC0415  # builds, where it is missing
    from finetune_operator.local.provide import provide  # noqa: PLC0415  # builds, where it is missing

    kubectl = str(provide([KUBECTL], say=quiet)["kubectl"])
    crds = str(REPOSITORY / "crds")
    command = [kubectl, f"--kubeconfig={kubeconfig}", "apply", "--server-side", "-f", crds]
    subprocess.run(command, check=True, capture_output=True)
    established = [*command[:2], "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]
    subprocess.run(established, check=True, capture_output=True)
    client.ensure("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    eventually(lambda: client.find(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"), "Pods can be created")
    client.ensure(f"{FINETUNE}/gpupools", a_pool())


class Stopwatch:
    """Notes when each job reaches a phase, on a watch of its own."""

    def __init__(self, client: Client, path: str) -> None:
        self.created: dict[str, float] = {}
        self.reached: dict[str, dict[str, float]] = {"Planned": {}, "Succeeded": {}, "Failed": {}}
        self._done = threading.Event()
        version = client.get(path)["metadata"]["resourceVersion"]
        self._thread = threading.Thread(target=self._watch, args=(client, path, version), daemon=True)
        self._thread.start()

    def _watch(self, client: Client, path: str, version: str) -> None:
        for event in client.watch(path, version, self._done.is_set):
            name, status = event["object"]["metadata"]["name"], event["object"].get("status", {})
            if status.get("phase") in self.reached:
                self.reached[status["phase"]].setdefault(name, time.monotonic())

    def latencies(self, phase: str) -> list[float]:
        """Return the seconds from create call to phase, sorted."""
        return sorted(at - self.created[name] for name, at in self.reached[phase].items() if name in self.created)

    def stop(self) -> None:
        """End the watch."""
        self._done.set()
        self._thread.join(timeout=5)


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def requests() -> dict[str, float]:
    """Return the operator's API requests by verb and resource."""
    with urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, float] = {}
    for line in lines:
        if line.startswith("finetune_api_requests_total{"):
            labels = dict(pair.split("=") for pair in line[line.index("{") + 1 : line.index("}")].split(","))
            key = f"{labels['verb']} {labels['resource']}".replace('"', "")
            found[key] = found.get(key, 0) + float(line.split()[-1])
    return found


def percentile(values: list[float], share: float) -> float:
    """Return a percentile of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def burst(client: Client, operator: "subprocess.Popen[bytes]", jobs: int) -> None:
    """Create so many jobs at once, wait for all, print the figures."""
    path = f"{FINETUNE}/namespaces/{NAMESPACE}/finetunejobs"
    watch, before, cpu = Stopwatch(client, path), requests(), cpu_seconds(operator.pid)

    def create(number: int) -> None:
        name = f"job-{number}"
        watch.created[name] = time.monotonic()
        client.create(path, a_job(name))

    began = time.monotonic()
    with ThreadPoolExecutor(CREATORS) as creators:
        list(creators.map(create, range(jobs)))
    created = time.monotonic() - began
    eventually(lambda: len(watch.reached["Succeeded"]) + len(watch.reached["Failed"]) >= jobs, "all have ended", 600)
    seconds, after = time.monotonic() - began, requests()
    watch.stop()
    writes = {key: after[key] - before.get(key, 0) for key in sorted(after) if not key.startswith("GET")}
    print(
        f"jobs {jobs}, failed {len(watch.reached['Failed'])}, created in {created:.1f} s, ended after {seconds:.1f} s"
    )
    print(f"jobs per second: {jobs / seconds:.1f}")
    for phase in ("Planned", "Succeeded"):
        waits = watch.latencies(phase)
        middle = statistics.median(waits) if waits else float("nan")
        print(f"create -> {phase}: p50 {middle:.2f} s, p99 {percentile(waits, 0.99):.2f} s ({len(waits)} seen)")
    print(f"writes per job: {sum(writes.values()) / jobs:.2f}")
    for key, number in writes.items():
        print(f"  {key}: {number / jobs:.2f}")
    spent = cpu_seconds(operator.pid) - cpu
    print(f"operator: {spent:.1f} CPU s, {1000 * spent / jobs:.0f} ms per job, {rss_mib(operator.pid):.0f} MiB RSS")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--kubeconfig", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, cluster(options.kubeconfig, Path(folder)) as kubeconfig:
        client, logs = Client(kubeconfig), Path(folder)
        apply_crds(client, kubeconfig)
        standin = ("tests.cluster.standin", str(kubeconfig), "--run-seconds=1")
        run = ("finetune_operator", "run", f"--kubeconfig={kubeconfig}", f"--port={PORT}", "--no-pod-logs")
        with program(*standin, log=logs / "standin.log"), program(*run, log=logs / "operator.log") as operator:
            burst(client, operator, options.jobs)


if __name__ == "__main__":
    main()
