"""A real control plane for tests: one bare cluster per session, a namespace per test."""

import contextlib
import itertools
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from finetune_operator.local.binaries import KUBECTL
from finetune_operator.local.control_plane import start_node
from finetune_operator.local.processes import ProcessId, kill_all, recall
from finetune_operator.local.provide import provide
from finetune_operator.local.state import ClusterState

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class ControlPlane:
    """A running cluster without any Node, or with a process node beside it."""

    state: ClusterState
    made: list[str] = field(default_factory=list)
    """Namespaces made by tests."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state.kubeconfig

    def kubectl(self, *arguments: str, given: Any = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl, for a minute at most; `given` is an object (or a list of them) for its standard input."""
        text = None if given is None else "\n---\n".join(json.dumps(item) for item in _items(given))
        answer = self.kubectl_text(*arguments, text=text)
        if check and answer.returncode:
            raise AssertionError(f"{' '.join(arguments)}: {answer.stderr.strip()}")
        return answer

    def kubectl_text(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl with a text for its standard input, whatever it answers."""
        return subprocess.run(
            self._command(arguments), input=text, capture_output=True, text=True, timeout=60, check=False
        )

    @contextlib.contextmanager
    def kubectl_started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run kubectl beside the test; it is ended with the block."""
        with subprocess.Popen(self._command(arguments), stdout=subprocess.PIPE, text=True) as child:
            try:
                yield child
            finally:
                child.kill()

    def last_state_before_deletion(self, pod: str, namespace: str) -> Any:
        """Delete a Pod, wait until it is gone, and return how it was last seen."""
        with self.kubectl_started("get", "pod", pod, "-n", namespace, "--watch", "--output=json") as watch:
            assert watch.stdout is not None
            states = _documents(watch.stdout)
            next(states)  # the watch has begun: else the Pod may be gone before it
            self.kubectl("delete", "pod", pod, "-n", namespace, "--timeout=40s")
            leaving = (state for state in states if "deletionGracePeriodSeconds" in state["metadata"])
            return next(state for state in leaving if _terminal(state))

    def _command(self, arguments: Sequence[str]) -> list[str]:
        program = provide([KUBECTL], say=print)["kubectl"]
        home = self.state.root / "kubectl-cache"
        return [str(program), f"--kubeconfig={self.kubeconfig}", f"--cache-dir={home}", *arguments]

    def apply(self, *objects: Any) -> None:
        """Apply objects, server-side, fields validated strictly."""
        self.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", given=list(objects))

    def get(self, *arguments: str) -> Any:
        """Return what `kubectl get ... -o json` shows."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def phase(self, pod: str, namespace: str, wanted: str, *, seconds: int = 30) -> Any:
        """Wait until a Pod has a phase, and return the Pod."""
        until = f"--for=jsonpath={{.status.phase}}={wanted}"
        answer = self.kubectl("wait", f"pod/{pod}", "-n", namespace, until, f"--timeout={seconds}s", check=False)
        found = self.get("pod", pod, "-n", namespace)
        assert answer.returncode == 0, f"{pod} is not {wanted}: {json.dumps(found['status'], indent=1)}"
        return found

    def wait_for_nodes(self, *names: str) -> None:
        """Wait until Nodes are there and Ready."""
        for name in names:
            # one at a time: kubectl waits for the creation of one object only
            self.kubectl("wait", "--for=create", f"node/{name}", "--timeout=30s")
            self.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=30s")

    def namespace(self, prefix: str = "test") -> str:
        """Make a namespace in which Pods can be created at once, and return its name."""
        name = f"{prefix}-{os.getpid()}-{next(_NUMBERS)}"
        self.kubectl("create", "namespace", name)
        self.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=30s")
        self.made.append(name)
        return name


@dataclass(frozen=True)
class ProcessNode:
    """The process node of a running cluster: what a test may do to it beside using the API."""

    cluster: ControlPlane

    @property
    def process(self) -> ProcessId | None:
        """The daemon; None when it does not run."""
        return recall(self.cluster.state.pids / "node")

    def folder(self, namespace: str, pod: str) -> Path:
        """Return the folder of a Pod."""
        (found,) = self.cluster.state.pods.glob(f"{namespace}_{pod}_*")
        return found

    def container_pid(self, namespace: str, pod: str, container: str | None = None) -> int:
        """Return the process number of a running container, to kill it as the kernel would."""
        name = container or self.cluster.get("pod", pod, "-n", namespace)["spec"]["containers"][0]["name"]
        started = self.folder(namespace, pod) / "containers" / name / "started.json"
        return int(json.loads(started.read_text())["pid"])

    def stop(self) -> None:
        """Kill the daemon as a crash would; the processes of its Pods run on."""
        if process := self.process:
            kill_all([process])

    def restart(self) -> None:
        """Start another daemon, after killing the one that may be there."""
        self.stop()
        start_node(self.cluster.state)

    def claim_folder(self, namespace: str, claim: str) -> Path:
        """Return the folder behind a PersistentVolumeClaim."""
        return self.cluster.state.claims / namespace / claim


def _documents(stream: TextIO) -> Iterator[Any]:
    """Read JSON objects that follow each other, until the stream ends."""
    text = ""
    for line in stream:
        text += line
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(text)
            text = ""


def _terminal(pod: Any) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def _items(given: Any) -> Sequence[Any]:
    return given if isinstance(given, list) else [given]
