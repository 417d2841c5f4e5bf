"""The whole product for a test: API server, process node, operator and trainer, used as a user would with kubectl."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.client import eventually
from tests.servers.control_plane import ControlPlane, ProcessNode
from tests.servers.jobs import Jobs

FAST = (
    "--progress-seconds=0.5", "--retry-back-off-seconds=1", "--port=0", "--no-leader-elect", "--gpu-publish-seconds=0",
)  # fmt: skip
"""Models are tiny: at 0 seconds every full fine-tune is handed over."""


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
class Product(Jobs):
    """One namespace of the running product."""

    node: ProcessNode
    operator: Operator
    model: Path
    data: Path
    folder: Path
    """Where this test's outputs go."""

    def submit(self, name: str, **spec: Any) -> None:
        """Apply a small LoRA job; `spec` replaces top-level fields."""
        usual = {
            "model": {"source": f"file://{self.model}"},
            "datasets": [{"source": f"file://{self.data}"}],
            "method": "lora",
            "training": {"maxSteps": 12, "globalBatchSize": 4, "sequenceLength": 64, "learningRate": "5e-3"},
            "evaluation": {"maxExamples": 12},
            "resources": {"gpus": 1, "pools": ["laptop"]},
            "output": {"destination": f"file://{self.folder}/{name}"},
        }
        self.apply(name, usual | spec)

    def kill_trainer(self, pod: str) -> None:
        """SIGKILL the whole container of a trainer, as the kernel does to a process group."""
        os.killpg(self.node.container_pid(self.namespace, pod), signal.SIGKILL)
