"""The operators that are measured: what a job is, where its Pods are, and how the operator is started."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.scale.cluster import GPU_PRODUCT, NAMESPACE, Cluster, program, until
from tests.bench.scale.load import Marks
from tests.cluster.client import FINETUNE, Raw

REPOSITORY = Path(__file__).parents[3]
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One operator."""

    name: str
    client: str
    """How its user agent begins."""
    jobs: str
    """Path of its jobs."""
    children: tuple[str, ...]
    """Paths of what it makes of them, Pods included."""
    job: Callable[[str], Raw]
    label: str
    """Label of Pods that holds the name of the job."""
    marks: Marks
    """`running` and `finished`, as its status says it."""
    pods_per_job: int
    install: Callable[[Cluster], None]
    started: Callable[[Cluster], Any]
    """Context manager that runs it and gives the process, once it is ready."""


def phase(*names: str) -> Callable[[Raw], bool]:
    """Return the test for a status.phase."""
    return lambda raw: raw.get("status", {}).get("phase") in names


def a_finetunejob(name: str) -> Raw:
    """Return a job on one GPU."""
    spec = {
        "model": {"source": "file:///models/tiny"},
        "datasets": [{"source": "file:///data/train.jsonl"}],
        "resources": {"pools": ["simulated"]},
        "output": {"destination": f"file:///out/{name}"},
    }
    return {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": name}, "spec": spec}


def a_gang(name: str, nodes: int) -> Raw:
    """Return a job on all GPUs of some nodes."""
    job = a_finetunejob(name)
    more = {"resources": {"pools": ["simulated"], "gpus": 8 * nodes}, "training": {"globalBatchSize": 8 * nodes}}
    return job | {"spec": job["spec"] | {"method": "lora"} | more}


POOL: Raw = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "GPUPool",
    "metadata": {"name": "simulated"},
    "spec": {
        "gpuType": GPU_PRODUCT,
        "gpusPerNode": 8,
        "maxNodes": 130,
        "node": {"cpus": 96, "memoryGiB": 1024, "ephemeralGiB": 4096},
        "nodeSelector": [{"key": "nvidia.com/gpu.present", "value": "true"}],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "pricePerGPUHourUSD": "2.00",
    },
}


def ours(source: Path = REPOSITORY) -> Contender:
    """Return our operator, as a checkout has it."""

    def install(cluster: Cluster) -> None:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(source / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        with contextlib.suppress(Exception):
            cluster.client.ensure(f"{FINETUNE}/gpupools", POOL)

    @contextlib.contextmanager
    def started(cluster: Cluster) -> Iterator[Any]:
        log = cluster.folder / "operator.log"
        log.write_text("")
        command = [sys.executable, "-m", "finetune_operator", "run", f"--kubeconfig={cluster.state.kubeconfig}"]
        paths = ":".join(str(source / each) for each in ("contract", "operator"))
        env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        with program([*command, "--no-pod-logs"], log=log, env=env) as process:
            until("ready jobs=", process, log, 300)
            yield process

    return Contender(
        name="finetune-operator",
        client="finetune-operator",
        jobs=f"{FINETUNE}/namespaces/{NAMESPACE}/finetunejobs",
        children=(PODS, f"{FINETUNE}/namespaces/{NAMESPACE}/finetuneplans"),
        job=a_finetunejob,
        label="finetune.dev/job-name",
        marks={"running": phase("Training"), "finished": phase("Succeeded", "Failed")},
        pods_per_job=2,
        install=install,
        started=started,
    )
