"""A user's namespace on real nodes: it enforces `restricted`, has a claim, and jobs run in it. Called by the tests."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.cluster.client import eventually
from tests.real_node.installation import RESTRICTED, Installation
from tests.servers.control_plane import ControlPlane
from tests.servers.jobs import Jobs, Raw

INSTALL = Path(__file__).parents[2] / "docs/install.md"

LONG = {
    "training": {"maxSteps": 240, "globalBatchSize": 4, "sequenceLength": 64, "learningRate": "5e-3"},
    "checkpoint": {"intervalSeconds": 1},
}
"""Long enough to be hit in the middle, with a checkpoint every second."""

ENDLESS = LONG | {"training": LONG["training"] | {"maxSteps": 20_000}}
"""Longer than a kubelet takes to see what a Pod has on its disk, about a minute, on any machine. Nobody waits for its end."""


@dataclass
class Workspace(Jobs):
    """One namespace of a user."""

    installation: Installation

    @classmethod
    def make(cls, installation: Installation) -> "Workspace":
        """Make a namespace that enforces `restricted`, with the claim `team` over the folder of data."""
        plane = installation.cluster.plane
        name = plane.namespace("real")
        plane.kubectl("label", "namespace", name, *(f"{key}={value}" for key, value in RESTRICTED.items()))
        make_claim(plane, name, installation.data)
        plane.apply(trainers_policy() | {"metadata": {"name": "trainers", "namespace": name}})
        return cls(plane, name, installation)

    def submit(self, name: str, **spec: Any) -> None:
        """Apply a small LoRA job; `spec` replaces top-level fields."""
        usual = {
            "model": {"source": "pvc://team/model"},
            "datasets": [{"source": "pvc://team/rows.jsonl"}],
            "method": "lora",
            "training": {"maxSteps": 12, "globalBatchSize": 4, "sequenceLength": 64, "learningRate": "5e-3"},
            "evaluation": {"maxExamples": 12},
            "resources": {"gpus": 1, "pools": ["real"]},
            "output": {"destination": f"pvc://team/{self.namespace}/{name}"},
        }
        self.apply(name, usual | spec)

    def published(self, name: str) -> Path:
        """Return the folder of a job's output on the claim."""
        return self.installation.data / self.namespace / name

    def saved(self, name: str, *, attempt: int = 0) -> int:
        """Return the step of the newest complete checkpoint of an attempt, as it lies on the claim; 0: none yet."""
        complete = (self.published(name) / ".checkpoints").glob(f"attempt-{attempt}-step-*/COMPLETE")
        return max((int(marker.parent.name.rsplit("-", 1)[1]) for marker in complete), default=0)

    def saves(self, name: str, *, attempt: int = 0) -> int:
        """Wait for a checkpoint of an attempt and return its step."""

        def look() -> int:
            status = self.status(name)
            assert status.get("phase") != "Failed", json.dumps(self.condition(status, "Succeeded"))
            return self.saved(name, attempt=attempt)

        step: int = eventually(look, f"{name}: a checkpoint of attempt {attempt}", 120)
        return step

    def node_of(self, pod: str) -> str:
        """Return the node of a Pod."""
        return str(self.cluster.get("pod", pod, "-n", self.namespace)["spec"]["nodeName"])

    def limit(self, pod: str, resource: str) -> str:
        """Wait until a Pod exists and return a limit of its container."""
        self.cluster.kubectl("wait", "--for=create", f"pod/{pod}", "-n", self.namespace, "--timeout=50s")
        (container,) = self.cluster.get("pod", pod, "-n", self.namespace)["spec"]["containers"]
        return str(container["resources"]["limits"][resource])

    def end_of(self, pod: str) -> Raw | None:
        """Return how the container of a Pod ended; None while it runs."""
        (container,) = self.cluster.get("pod", pod, "-n", self.namespace)["status"]["containerStatuses"]
        ended: Raw | None = container["state"].get("terminated")
        return ended

    def execute(self, pod: str, *command: str, check: bool = True) -> str:
        """Run a command in a Pod's container and return what it printed."""
        return self.cluster.kubectl("exec", pod, "-n", self.namespace, "--", *command, check=check).stdout

    def log(self, pod: str) -> str:
        """Return the log of a Pod."""
        return self.cluster.kubectl("logs", pod, "-n", self.namespace).stdout

    def delete_all(self) -> None:
        """Delete the jobs and wait until nothing of them runs any more."""
        self.cluster.kubectl("delete", "ftj", "--all", "-n", self.namespace, "--timeout=50s")

        def pods() -> list[Raw]:
            items: list[Raw] = self.cluster.get("pods", "-n", self.namespace, "-l", "finetune.dev/role")["items"]
            return items

        eventually(lambda: not pods(), f"the jobs' Pods in {self.namespace} are gone", 100)


def trainers_policy() -> Raw:
    """Return the NetworkPolicy that the docs ask for in each namespace with jobs."""
    (policy,) = re.findall(
        r"^```yaml\n(apiVersion: .*?kind: NetworkPolicy.*?)```$", INSTALL.read_text(), re.MULTILINE | re.DOTALL
    )
    parsed: Raw = YAML(typ="safe").load(policy)
    return parsed


def make_claim(plane: ControlPlane, namespace: str, folder: Path) -> None:
    """Make the claim `team` over a folder of this machine, which is on every node."""
    storage = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = storage | {
        "capacity": {"storage": "10Gi"},
        "hostPath": {"path": str(folder)},
        "persistentVolumeReclaimPolicy": "Retain",
    }
    claim = storage | {"volumeName": f"work-{namespace}", "resources": {"requests": {"storage": "10Gi"}}}
    plane.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"work-{namespace}"}, "spec": volume},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "team", "namespace": namespace},
            "spec": claim,
        },
    )
