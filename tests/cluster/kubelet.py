"""Nodes on which the test is the kubelet: it writes the statuses of Pods by hand, step by step. Called by test_situations_*."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from tests.cluster.client import FINETUNE, MERGE, STRATEGIC, ApiError, Client, Raw, eventually
from tests.cluster.plays import GPU_PRODUCT, Play, a_job, a_pool
from tests.cluster.standin import ended_state, now_text, ready_condition

NODES = ("manual-1", "manual-2", "manual-3")
POOL = "manual"
LABEL = "manual.test/node"
RUNNING: Raw = {"running": {"startedAt": "2026-01-31T12:00:00Z"}}


def exited(code: int, message: str = "", reason: str = "") -> Raw:
    """Return the state of a container that has ended."""
    state = ended_state(Play(exit_code=code, reason=reason), now_text())
    state["terminated"]["message"] = message
    return state


def ended(play: Play) -> Raw:
    """Return the state of a container that has ended as a play says."""
    return ended_state(play, now_text())


def waits(reason: str, message: str = "") -> Raw:
    """Return the state of a container that waits."""
    return {"waiting": {"reason": reason, "message": message}}


@dataclass
class Kubelet:
    """One namespace's Pods, their statuses and the nodes that they are bound to."""

    client: Client
    namespace: str
    silent: set[str] = field(default_factory=set)
    """Nodes that no longer renew their Lease."""
    _stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        for name in NODES:
            self._register(name)
        pool = a_pool()
        pool["metadata"] = {"name": POOL}
        taint = {"key": LABEL, "operator": "Exists", "effect": "NoSchedule"}
        pool["spec"] |= {"nodeSelector": [{"key": LABEL, "value": "yes"}], "tolerations": [taint], "maxNodes": 3}
        self.client.ensure(f"{FINETUNE}/gpupools", pool)
        threading.Thread(target=self._renew, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _register(self, name: str) -> None:
        room = {"cpu": "200", "memory": "2000Gi", "ephemeral-storage": "4000Gi", "pods": "110", "nvidia.com/gpu": "8"}
        labels = {
            LABEL: "yes",
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
        }
        gpus = {"nvidia.com/gpu.product": GPU_PRODUCT, "nvidia.com/gpu.present": "true"}
        status = {"capacity": room, "allocatable": room, "conditions": [ready_condition()]}
        taints = [{"key": LABEL, "value": "yes", "effect": "NoSchedule"}]
        meta = {"name": name, "labels": labels | gpus}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {"taints": taints}, "status": status}
        self.client.ensure("/api/v1/nodes", node)
        self.client.patch(f"/api/v1/nodes/{name}/status", {"status": status}, STRATEGIC)
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
        self.client.ensure("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease)

    def _renew(self) -> None:
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        while not self._stopped.wait(5):
            for name in set(NODES) - self.silent:
                now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                try:
                    self.client.patch(f"{leases}/{name}", {"spec": {"renewTime": now}})
                    self.client.patch(
                        f"/api/v1/nodes/{name}/status", {"status": {"conditions": [ready_condition()]}}, STRATEGIC
                    )
                except ApiError:
                    continue

    # Jobs -----------------------------------------------------------------------------------------------------------

    @property
    def jobs(self) -> str:
        return f"{FINETUNE}/namespaces/{self.namespace}/finetunejobs"

    def apply(self, name: str, meta: Raw | None = None, **spec: Any) -> Raw:
        """Create a job in the pool of these nodes."""
        job = a_job(name, **{"resources": {"pools": [POOL]}, **spec})
        job["metadata"] |= meta or {}
        return self.client.create(self.jobs, job)

    def job(self, name: str) -> Raw:
        return self.client.get(f"{self.jobs}/{name}")

    def says(self, name: str, words: str, kind: str = "Reconciling", seconds: float = 30) -> Raw:
        """Wait until a condition's message holds some words; return the condition."""

        def look() -> Raw | None:
            found = condition(self.job(name), kind)
            return found if words in f"{found.get('reason')}: {found.get('message')}" else None

        try:
            return eventually(look, f"{name} says {words!r}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {condition(self.job(name), kind)}") from None

    def attempt(self, name: str, number: int, *, ended: bool = True) -> Raw:
        """Wait for an attempt, by default for its end; return its entry."""

        def look() -> Raw | None:
            listed = self.job(name).get("status", {}).get("attempts") or []
            found = next((each for each in listed if each["number"] == number), None)
            return found if found and (not ended or found.get("outcome")) else None

        return eventually(look, f"{name} has attempt {number}")

    # Pods -----------------------------------------------------------------------------------------------------------

    def path(self, pod: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{pod}"

    def bound(self, pod: str) -> Raw:
        """Wait until a Pod has a node; return it."""

        def look() -> Raw | None:
            found = self.client.find(self.path(pod))
            return found if found and found["spec"].get("nodeName") else None

        return eventually(look, f"{pod} is bound")

    def gone(self, pod: str, uid: str = "") -> None:
        """Wait until a Pod is being deleted, or another has its name; then end it as a kubelet does."""

        def look() -> bool:
            found = self.client.find(self.path(pod))
            return not found or found["metadata"]["uid"] != (uid or found["metadata"]["uid"]) or is_deleted(found)

        eventually(look, f"{pod} is being deleted")
        self.remove(pod)

    def remove(self, pod: str) -> None:
        """Take a Pod from the API, as a kubelet does that has ended it."""
        try:
            self.client.delete(self.path(pod), gracePeriodSeconds=0)
        except ApiError as error:
            if error.status != 404:
                raise

    def discard(self, job: str) -> None:
        """Delete a job and end its Pods, so that the next one finds the GPUs free."""
        selector = {"labelSelector": f"finetune.dev/job-name={job}"}
        self.client.delete(f"{self.jobs}/{job}")

        def ended() -> bool:
            pods = self.client.get(f"/api/v1/namespaces/{self.namespace}/pods?{urlencode(selector)}")["items"]
            for pod in pods:
                self.remove(pod["metadata"]["name"])
            return not pods

        eventually(ended, f"the Pods of {job} are gone")

    def status(
        self, pod: str, phase: str, containers: Raw | None = None, initial: Raw | None = None, **more: Any
    ) -> None:
        """Write a Pod's status: states of its containers by name; a kubelet lists them by name."""
        status: Raw = {"phase": phase, "startTime": now_text(), **more}
        for kind, states in (("containerStatuses", containers), ("initContainerStatuses", initial)):
            if states is not None:
                status[kind] = [container_status(name, states[name]) for name in sorted(states)]
        self.client.patch(f"{self.path(pod)}/status", {"status": status}, STRATEGIC if "conditions" in more else MERGE)

    def run(self, pod: str, **others: Raw) -> Raw:
        """Let a Pod's container run, once it is bound."""
        found = self.bound(pod)
        name = found["metadata"]["labels"]["finetune.dev/role"]
        self.status(pod, "Running", {name: RUNNING, **others})
        return found


def is_deleted(found: Raw) -> bool:
    return "deletionTimestamp" in found["metadata"]


def container_status(name: str, state: Raw) -> Raw:
    runs = "running" in state
    return {
        "name": name, "image": "x", "imageID": "", "restartCount": 0, "ready": runs, "started": runs, "state": state,
    }  # fmt: skip


def condition(job: Raw, kind: str) -> Raw:
    """Return a condition of a job, empty without it."""
    conditions = job.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})
