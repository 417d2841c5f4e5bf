"""The product as a platform team installs it: images by digest, the chart, a pool, a namespace with storage."""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_operator.local import binaries

from tests.cluster.client import eventually
from tests.real_node.cluster import RealCluster
from tests.real_node.programs import run

Raw = dict[str, Any]

CHART = Path(__file__).parents[2] / "charts/finetune-operator"
SYSTEM = "finetune-system"
RELEASE = "finetune-operator"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
_NUMBERS = itertools.count()

POOL = {
    "gpuType": "local-cpu",
    "memoryGiB": "16",
    "gpusPerNode": 1,
    "maxNodes": 2,
    "node": {"cpus": 2, "memoryGiB": 12, "ephemeralGiB": 20},
    "nodeSelector": [{"key": "nvidia.com/gpu.product", "value": "local-cpu"}],
    "pricePerGPUHourUSD": "36.00",
}
"""Two nodes of one pretended GPU; at this price a GPU-second is a cent."""


@dataclass(frozen=True)
class Installation:
    """A release of the chart on real nodes."""

    cluster: RealCluster
    operator_image: str
    trainer_image: str
    preflight_image: str
    data: Path
    """Folder behind every claim: model, rows, and what the jobs publish."""
    replicas: int = 2

    def install(self) -> None:
        """Install or upgrade the release, and wait until the operator leads."""
        plane = self.cluster.plane
        plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM, "labels": RESTRICTED}})
        self.helm("upgrade", "--install", RELEASE, str(CHART), "-n", SYSTEM, "-f", str(self._values()))
        plane.kubectl("wait", "--for=condition=Established", "crd/gpupools.finetune.dev", "--timeout=30s")
        plane.kubectl("rollout", "status", f"deployment/{RELEASE}", "-n", SYSTEM, "--timeout=50s")
        plane.apply(
            {"apiVersion": "finetune.dev/v1alpha1", "kind": "GPUPool", "metadata": {"name": "real"}, "spec": POOL}
        )

    def uninstall(self) -> None:
        """Remove the release; jobs and definitions stay."""
        self.helm("uninstall", RELEASE, "-n", SYSTEM, "--wait")

    def helm(self, *arguments: str) -> str:
        """Run helm on this cluster."""
        program = binaries.provide([binaries.HELM], say=print)["helm"]
        return run(program, f"--kubeconfig={self.cluster.plane.kubeconfig}", *arguments)

    def _values(self) -> Path:
        repository, digest = self.operator_image.split("@")
        values = {
            "image": {"repository": repository, "digest": digest},
            "trainer": {"image": self.trainer_image, "preflightImage": self.preflight_image},
            "replicas": self.replicas,
        }
        path = self.cluster.plane.state.root / "values.json"
        path.write_text(json.dumps(values))
        return path

    def leader_node(self) -> str:
        """Return the node on which the leading operator runs."""
        lease = self.cluster.plane.get("lease", "-n", SYSTEM)["items"][0]
        holder = lease["spec"]["holderIdentity"]
        pods = self.cluster.plane.get("pods", "-n", SYSTEM)["items"]
        (node,) = (pod["spec"]["nodeName"] for pod in pods if holder.startswith(pod["metadata"]["name"]))
        return str(node)

    def namespace(self) -> "Workspace":
        """Make a namespace that enforces `restricted`, with the claim `work` over the folder of data."""
        plane = self.cluster.plane
        name = plane.namespace("real")
        plane.kubectl("label", "namespace", name, *(f"{key}={value}" for key, value in RESTRICTED.items()))
        volume = f"work-{name}"
        storage = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        plane.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": volume},
                "spec": storage
                | {
                    "capacity": {"storage": "10Gi"},
                    "hostPath": {"path": str(self.data)},
                    "persistentVolumeReclaimPolicy": "Retain",
                },
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "work", "namespace": name},
                "spec": storage | {"volumeName": volume, "resources": {"requests": {"storage": "10Gi"}}},
            },
        )
        return Workspace(self, name)


@dataclass(frozen=True)
class Workspace:
    """One namespace of a user."""

    installation: Installation
    namespace: str
    submitted: list[str] = field(default_factory=list)

    @property
    def plane(self) -> Any:
        """The API server."""
        return self.installation.cluster.plane

    def submit(self, name: str, **spec: Any) -> None:
        """Apply a small LoRA job; `spec` replaces top-level fields."""
        usual = {
            "model": {"source": "pvc://work/model"},
            "datasets": [{"source": "pvc://work/rows.jsonl"}],
            "method": "lora",
            "training": {"maxSteps": 12, "globalBatchSize": 4, "sequenceLength": 64, "learningRate": "5e-3"},
            "evaluation": {"maxExamples": 12},
            "resources": {"gpus": 1, "pools": ["real"]},
            "output": {"destination": f"pvc://work/{self.namespace}/{name}"},
        }
        metadata = {"name": name, "namespace": self.namespace}
        job = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata, "spec": usual | spec}
        self.plane.apply(job)
        self.submitted.append(name)

    def status(self, name: str) -> Raw:
        """Return the status of a job."""
        found: Raw = self.plane.get("ftj", name, "-n", self.namespace).get("status", {})
        return found

    def until(self, name: str, holds: Any, what: str, seconds: float = 240) -> Raw:
        """Wait until something holds of the status. A job that failed meanwhile ends the wait."""

        def look() -> Raw | None:
            status = self.status(name)
            if holds(status):
                return status
            assert status.get("phase") != "Failed", json.dumps(status.get("conditions"))
            return None

        found: Raw = eventually(look, f"{name}: {what}", seconds)
        return found

    def finish(self, name: str) -> Raw:
        """Wait for success."""
        return self.until(name, lambda status: status.get("phase") == "Succeeded", "Succeeded")

    def reach(self, name: str, step: int) -> Raw:
        """Wait until the trainer has reported a step."""
        return self.until(name, lambda status: status.get("progress", {}).get("step", 0) >= step, f"step {step}")

    def pods(self, name: str) -> list[Raw]:
        """Return the trainer Pods of a job."""
        selector = f"finetune.dev/job-name={name},finetune.dev/role=trainer"
        items: list[Raw] = self.plane.get("pods", "-n", self.namespace, "-l", selector)["items"]
        return items

    def delete_all(self) -> None:
        """Delete the jobs and wait for their Pods to be gone."""
        self.plane.kubectl("delete", "ftj", "--all", "-n", self.namespace, "--timeout=50s")
