"""Time from `kubectl apply` to the first training step, beside the bare trainer on the same run.json. Prints the ratio.

python -m tests.bench.bench_first_step [--pairs 3]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import finetune_contract as contract
from finetune_operator.api.crd import crds
from finetune_operator.local.components import Options
from finetune_operator.local.control_plane import down, up
from finetune_operator.local.state import ClusterState

from tests.e2e.conftest import POOL
from tests.e2e.product import Operator, Product
from tests.servers.control_plane import ControlPlane, ProcessNode
from tests.trainer.tiny import conversations, tiny_model


def main() -> None:
    """Measure pairs, interleaved, and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        state = ClusterState(home / "cluster")
        up(state, Options(), say=print)
        try:
            measure(ControlPlane(state), home, pairs)
        finally:
            down(state, say=print)


def measure(cluster: ControlPlane, home: Path, pairs: int) -> None:
    """Run the pairs on one cluster with one operator."""
    cluster.apply(*crds())
    names = ("crd/finetunejobs.finetune.dev", "crd/gpupools.finetune.dev")
    cluster.kubectl("wait", "--for=condition=Established", *names)
    cluster.apply(POOL)
    operator = Operator(cluster, home / "operator.log")
    operator.start()
    model, data = tiny_model(home / "model"), conversations(home / "rows.jsonl", rows=300)
    product = Product(cluster, cluster.namespace("bench"), ProcessNode(cluster), operator, model, data, home)
    rows = []
    try:
        for number in range(pairs):
            whole, run = through_the_api(product, f"job-{number}")
            alone = bare(run, home / f"bare-{number}")
            rows.append((whole, alone))
            print(
                f"apply -> first step {whole:6.1f} s   bare trainer {alone:6.1f} s   ratio {whole / alone:.2f}",
                flush=True,
            )
    finally:
        operator.stop()
    ratios = [whole / alone for whole, alone in rows]
    print(f"median ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f}, {pairs} pairs)")


def through_the_api(product: Product, name: str) -> tuple[float, dict[str, Any]]:
    """Apply a job; return the seconds until its trainer reports step 1, and what the trainer was told."""
    begun = time.monotonic()
    product.submit(name)
    while not any(pod["metadata"]["name"] == f"{name}-0-0" for pod in product.pods(name)):
        time.sleep(0.05)
    arguments = ("logs", "-f", f"{name}-0-0", "-n", product.namespace)
    while product.cluster.kubectl(*arguments[:1], *arguments[2:], check=False).returncode:
        time.sleep(0.05)
    while not any(
        stepped(line) for line in product.cluster.kubectl(*arguments[:1], *arguments[2:]).stdout.splitlines()
    ):
        time.sleep(0.1)
    seconds = time.monotonic() - begun
    product.finish(name)
    return seconds, json.loads(product.pods(name)[0]["metadata"]["annotations"]["finetune.dev/run"])


def bare(run: dict[str, Any], folder: Path) -> float:
    """Run the trainer on the same configuration with another output; return the seconds to its first step."""
    (folder / "workspace").mkdir(parents=True)
    run["output"]["uri"] = f"file://{folder}/out"
    run["checkpoint"]["location"]["uri"] = f"file://{folder}/checkpoints"
    (folder / "run.json").write_text(json.dumps(run))
    environment = os.environ | {
        contract.ENV_RUN_CONFIG: str(folder / "run.json"),
        contract.ENV_WORKSPACE: str(folder / "workspace"),
        contract.ENV_TERMINATION_LOG: str(folder / "message"),
        contract.ENV_DEVICE: "cpu",
        contract.ENV_ALLOW_FILE: "1",
        "OMP_NUM_THREADS": "1",
    }
    begun, seconds = time.monotonic(), 0.0
    command = [sys.executable, "-m", "finetune_trainer", "train"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if not seconds and stepped(line):
                seconds = time.monotonic() - begun
    if child.returncode:
        raise RuntimeError((folder / "message").read_text())
    return seconds


def stepped(line: str) -> bool:
    """Say whether a log line reports a finished step."""
    progress = contract.parse_progress(line)
    return progress is not None and progress.step > 0


if __name__ == "__main__":
    main()
