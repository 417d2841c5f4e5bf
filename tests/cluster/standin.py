"""A scripted stand-in for kubelet and trainer: plays our Pods on two fake nodes, speaking the contract, without torch.

The real scheduler binds the Pods; from then on this does to their status what a kubelet would. What a Pod does is
looked up by job name, role and attempt in `scripts`; without one preflight succeeds at once, training after
`run_seconds`.
Also run as a program by the benchmark: `python -m tests.cluster.standin KUBECONFIG [--run-seconds 1]`.
"""

import argparse
import heapq
import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune_contract import outcome_text

from tests.cluster.client import STRATEGIC, ApiError, Client, Raw
from tests.cluster.plays import (
    CPU_NODE,
    GPU_NODE,
    GPU_PRODUCT,
    LABEL,
    Play,
    Script,
    export_succeeds,
    preflight_succeeds,
    training_succeeds,
)

MEETING_SECONDS = 0.1
"""So often a replica looks whether the others run."""


def now_text() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class StandIn:
    """The kubelet. Starts threads; `stop` ends them."""

    client: Client
    run_seconds: float = 0.05
    scripts: dict[str, Script] = field(default_factory=dict)
    """By job name."""
    added: Counter[str] = field(default_factory=Counter)
    """namespace/name of Pods -> ADDED events seen."""
    held: set[str] = field(default_factory=set)
    """Names of Pods that somebody else plays."""
    _heap: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _wake: threading.Condition = field(default_factory=threading.Condition)
    _seen: dict[str, set[str]] = field(default_factory=dict)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _numbers: Any = field(default_factory=itertools.count)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def start(self) -> None:
        for name, labels, capacity in (
            (
                GPU_NODE,
                {"nvidia.com/gpu.product": GPU_PRODUCT, "nvidia.com/gpu.present": "true"},
                {"nvidia.com/gpu": "20000"},
            ),
            (CPU_NODE, {}, {}),
        ):
            self._register(name, labels, capacity)
        pods = self.client.get("/api/v1/pods?labelSelector=finetune.dev/job-uid")
        for pod in pods["items"]:
            self._see(pod)
        for work in (lambda: self._watch(pods["metadata"]["resourceVersion"]), self._renew, self._run):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._stopped.set()
        with self._wake:
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout=15)
        self._pool.shutdown(cancel_futures=True)

    def _register(self, name: str, labels: dict[str, str], capacity: dict[str, str]) -> None:
        room = {"cpu": "1000000", "memory": "4000Ti", "ephemeral-storage": "4000Ti", "pods": "30000", **capacity}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {LABEL: name, "kubernetes.io/hostname": name, **labels}},
            "status": {
                "capacity": room,
                "allocatable": room,
                "conditions": [ready_condition()],
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            },
        }
        self.client.ensure("/api/v1/nodes", node)
        self.client.patch(f"/api/v1/nodes/{name}/status", {"status": {"conditions": [ready_condition()]}}, STRATEGIC)
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40},
        }
        self.client.ensure("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease)

    def _renew(self) -> None:
        """Keep the nodes Ready: their Leases are renewed, and a taint from a busy moment is taken back."""
        while not self._stopped.wait(5):
            for name in (GPU_NODE, CPU_NODE):
                self._safely(lambda name=name: self._beat(name))

    def _beat(self, name: str) -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.client.patch(path, {"spec": {"renewTime": now}})
        self.client.patch(f"/api/v1/nodes/{name}/status", {"status": {"conditions": [ready_condition()]}}, STRATEGIC)

    def _watch(self, version: str) -> None:
        selector = {"labelSelector": "finetune.dev/job-uid"}
        for event in self.client.watch("/api/v1/pods", version, self._stopped.is_set, **selector):
            meta = event["object"]["metadata"]
            if event["type"] == "ADDED":
                self.added[f"{meta['namespace']}/{meta['name']}"] += 1
            if event["type"] != "DELETED":
                self._see(event["object"])

    def _see(self, pod: Raw) -> None:
        """Play a Pod once it is bound to us, and end it once it is being deleted."""
        uid = pod["metadata"]["uid"]
        seen = self._seen.setdefault(uid, set())
        if pod["spec"].get("nodeName") not in (GPU_NODE, CPU_NODE) or pod["metadata"]["name"] in self.held:
            return
        if "deletionTimestamp" in pod["metadata"] and "delete" not in seen:
            seen.add("delete")
            self._later(0, lambda: self._delete(pod))
        elif "play" not in seen and "delete" not in seen:
            seen.add("play")
            self._later(0, lambda: self._play(pod))

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        with self._wake:
            heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._numbers), work))
            self._wake.notify()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with self._wake:
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is None or wait > 0:
                    self._wake.wait(wait)
                    continue
                _, _, work = heapq.heappop(self._heap)
            self._pool.submit(self._safely, work)

    def _safely(self, work: Callable[[], None]) -> None:
        try:
            work()
        except ApiError as error:
            if error.status not in (404, 409):  # the Pod was deleted meanwhile
                print(f"standin: {error}", file=sys.stderr)

    def _script(self, pod: Raw) -> Play:
        labels = pod["metadata"]["labels"]
        script = self.scripts.get(labels["finetune.dev/job-name"], {})
        if labels["finetune.dev/role"] == "preflight":
            return script.get("preflight", preflight_succeeds())
        if labels["finetune.dev/role"] == "export":
            default = script.get("export", export_succeeds())
            return script.get(f"export/{labels['finetune.dev/attempt']}", default)
        attempt, replica = labels["finetune.dev/attempt"], labels.get("finetune.dev/replica", "0")
        default = script.get("train", training_succeeds(self.run_seconds))
        return script.get(f"{attempt}/{replica}", script.get(attempt, default))

    def _play(self, pod: Raw) -> None:
        play = self._script(pod)
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return
        started = now_text()
        self._status(pod, "Running", {"running": {"startedAt": started}})
        if not play.hold:
            self._run_with_others(pod, play, started)

    def _run_with_others(self, pod: Raw, play: Play, started: str) -> None:
        """Let a Pod come to its end. A replica may fail alone, but trains only once all of its attempt run, as after a rendezvous."""
        environment = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0].get("env", [])}
        replicas = int(environment.get("PET_NNODES", 1))
        if play.exit_code or replicas == 1 or self._begun(pod) >= replicas:
            self._later(play.run_seconds, lambda: self._end(pod, play, started))
        elif "delete" not in self._seen[pod["metadata"]["uid"]]:
            self._later(MEETING_SECONDS, lambda: self._run_with_others(pod, play, started))

    def _begun(self, pod: Raw) -> int:
        """Return how many Pods of a Pod's attempt have begun."""
        meta = pod["metadata"]
        keys = ("finetune.dev/job-uid", "finetune.dev/role", "finetune.dev/attempt")
        same = ",".join(f"{key}={meta['labels'][key]}" for key in keys)
        pods = self.client.items(f"/api/v1/namespaces/{meta['namespace']}/pods", labelSelector=same)
        return sum(each["status"]["phase"] != "Pending" for each in pods)

    def _end(self, pod: Raw, play: Play, started: str) -> None:
        if "delete" in self._seen[pod["metadata"]["uid"]]:
            return
        self._status(pod, "Failed" if play.exit_code else "Succeeded", ended_state(play, started))

    def _delete(self, pod: Raw) -> None:
        meta = pod["metadata"]
        script = self.scripts.get(meta["labels"]["finetune.dev/job-name"], {})
        play = script.get("sigterm", Play(exit_code=143))
        if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            self._status(pod, "Failed", ended_state(play, now_text()))
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self.client.delete(path, gracePeriodSeconds=0, preconditions={"uid": meta["uid"]})

    def _status(self, pod: Raw, phase: str, state: Raw) -> None:
        meta = pod["metadata"]
        ready = {"status": str(phase == "Running"), "lastTransitionTime": now_text()}
        containers = [
            {
                "name": each["name"],
                "image": each["image"],
                "imageID": "",
                "restartCount": 0,
                "ready": phase == "Running",
                "started": phase == "Running",
                "state": state,
            }
            for each in pod["spec"]["containers"]
        ]
        status = {
            "phase": phase,
            "podIP": "10.244.0.9",
            "podIPs": [{"ip": "10.244.0.9"}],
            "containerStatuses": containers,
            "conditions": [{"type": kind, **ready} for kind in ("Ready", "ContainersReady")],
        }
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        self.client.patch(path, {"metadata": {"uid": meta["uid"]}, "status": status}, STRATEGIC)


def ready_condition() -> Raw:
    now = now_text()
    return {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "stand-in",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


def ended_state(play: Play, started: str) -> Raw:
    reason = play.reason or ("Error" if play.exit_code else "Completed")
    message = outcome_text(play.outcome) if play.outcome else ""
    ended = {
        "exitCode": play.exit_code,
        "reason": reason,
        "message": message,
        "startedAt": started,
        "finishedAt": now_text(),
    }
    return {"terminated": ended}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--run-seconds", type=float, default=1.0)
    options = parser.parse_args()
    standin = StandIn(Client(options.kubeconfig), run_seconds=options.run_seconds)
    standin.start()
    print("ready", flush=True)
    sys.stdin.read()  # ends when the parent closes the pipe
    standin.stop()


if __name__ == "__main__":
    main()
