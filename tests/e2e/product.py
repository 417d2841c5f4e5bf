"""The whole product for a test: API server, process node, operator and trainer, used as a user would with kubectl."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.client import eventually
from tests.servers.control_plane import ControlPlane, ProcessNode

Raw = dict[str, Any]

FAST = ("--progress-seconds=0.5", "--retry-back-off-seconds=1", "--port=0", "--no-leader-elect")


@dataclass
class Operator:
    """`finetune run` as a process of its own, which tests may kill."""

    cluster: ControlPlane
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the operator and wait until it has synced."""
        command = [sys.executable, "-m", "finetune_operator", "run", f"--kubeconfig={self.cluster.kubeconfig}", *FAST]
        begun = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        eventually(lambda: b"ready" in self.log.read_bytes()[begun:] or self._ended(), "the operator is ready")
        assert not self._ended(), self.log.read_text()[-3000:]

    def kill(self) -> None:
        """SIGKILL: no time to clean up."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, as a Deployment does."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None and not self._ended():
            self.process.send_signal(number)
            self.process.wait(timeout=20)
        self.process = None

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


@dataclass
class Product:
    """One namespace of the running product."""

    cluster: ControlPlane
    node: ProcessNode
    operator: Operator
    namespace: str
    model: Path
    data: Path
    folder: Path
    """Where this test's outputs go."""
    submitted: list[str] = field(default_factory=list)

    def job(self, name: str, **spec: Any) -> Raw:
        """Return the manifest of a small LoRA job; `spec` replaces top-level fields."""
        return {
            "apiVersion": "finetune.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "model": {"source": f"file://{self.model}"},
                "datasets": [{"source": f"file://{self.data}"}],
                "method": "lora",
                "training": {"maxSteps": 12, "globalBatchSize": 4, "sequenceLength": 64, "learningRate": "5e-3"},
                "evaluation": {"maxExamples": 12},
                "resources": {"gpus": 1, "pools": ["laptop"]},
                "output": {"destination": f"file://{self.folder}/{name}"},
            }
            | spec,
        }

    def submit(self, name: str, **spec: Any) -> None:
        """Apply a job."""
        self.cluster.apply(self.job(name, **spec))
        self.submitted.append(name)

    def change(self, name: str, spec: Raw) -> None:
        """Merge-patch the spec of a job, as `kubectl patch` does."""
        patch = json.dumps({"spec": spec})
        self.cluster.kubectl("patch", "ftj", name, "-n", self.namespace, "--type=merge", "-p", patch)

    def delete(self, name: str) -> None:
        """Delete a job and return at once."""
        self.cluster.kubectl("delete", "ftj", name, "-n", self.namespace, "--wait=false")

    def status(self, name: str) -> Raw:
        """Return the status of a job, empty before the operator has seen it."""
        status: Raw = self.cluster.get("ftj", name, "-n", self.namespace).get("status", {})
        return status

    def until(self, name: str, holds: Callable[[Raw], Any], what: str, seconds: float = 300) -> Raw:
        """Wait until something holds of the status and return it. A job that failed meanwhile ends the wait."""

        def look() -> Raw | None:
            status = self.status(name)
            if holds(status):
                return status
            assert status.get("phase") != "Failed", json.dumps(self.condition(status, "Succeeded"))
            return None

        found: Raw = eventually(look, f"{name}: {what}", seconds)
        return found

    def finish(self, name: str, seconds: float = 420) -> Raw:
        """Wait for success and return the status."""
        return self.until(name, lambda status: status.get("phase") == "Succeeded", "Succeeded", seconds)

    def reach(self, name: str, step: int) -> Raw:
        """Wait until the trainer has reported a step."""
        return self.until(name, lambda s: s.get("progress", {}).get("step", 0) >= step, f"step {step}")

    def pods(self, name: str, role: str = "trainer") -> list[Raw]:
        """Return the Pods of a job."""
        selector = f"finetune.dev/job-name={name},finetune.dev/role={role}"
        items: list[Raw] = self.cluster.get("pods", "-n", self.namespace, "-l", selector)["items"]
        return items

    def kill_trainer(self, pod: str) -> None:
        """SIGKILL the whole container of a trainer, as the kernel does to a process group."""
        os.killpg(self.node.container_pid(self.namespace, pod), signal.SIGKILL)

    @staticmethod
    def condition(status: Raw, kind: str) -> tuple[str, str, str]:
        """Return (status, reason, message) of a condition."""
        found = [c for c in status.get("conditions", []) if c["type"] == kind]
        return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else ("", "", "")
