"""FineTuneJobs of one namespace, handled as a user would with kubectl. Shared by the tests of the whole product."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finetune_operator.api.pinned import join, plan_name_of

from tests.cluster.client import eventually
from tests.servers.control_plane import ControlPlane

Raw = dict[str, Any]


@dataclass
class Jobs:
    """A namespace of a running product."""

    cluster: ControlPlane
    namespace: str

    def apply(self, name: str, spec: Raw) -> None:
        """Apply a job."""
        metadata = {"name": name, "namespace": self.namespace}
        job = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata, "spec": spec}
        self.cluster.apply(job)

    def change(self, name: str, spec: Raw) -> None:
        """Merge-patch the spec of a job, as `kubectl patch` does."""
        patch = json.dumps({"spec": spec})
        self.cluster.kubectl("patch", "ftj", name, "-n", self.namespace, "--type=merge", "-p", patch)

    def delete(self, name: str) -> None:
        """Delete a job and return at once."""
        self.cluster.kubectl("delete", "ftj", name, "-n", self.namespace, "--wait=false")

    def status(self, name: str) -> Raw:
        """Return the status of a job with its plan, empty before the operator has seen it."""
        job: Raw = self.cluster.get("ftj", name, "-n", self.namespace)
        plan = plan_name_of(job)
        whole = join(job, self.cluster.get("ftpl", plan, "-n", self.namespace)) if plan else job
        status: Raw = whole.get("status", {})
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

    @staticmethod
    def condition(status: Raw, kind: str) -> tuple[str, str, str]:
        """Return (status, reason, message) of a condition."""
        found = [c for c in status.get("conditions", []) if c["type"] == kind]
        return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else ("", "", "")
