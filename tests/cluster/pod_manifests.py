"""Pods for tests of the process node, and how they ended."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Raw = dict[str, Any]


def a_pod(namespace: str, name: str, command: list[str], **container: Any) -> Raw:
    """Return a Pod of one container; `pod` in the keywords adds to its spec, `metadata` to its metadata."""
    spec = container.pop("pod", {})
    metadata = container.pop("metadata", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace} | metadata,
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": "any", "command": command} | container],
        }
        | spec,
    }


def a_script(namespace: str, name: str, script: str, **container: Any) -> Raw:
    """Return a Pod that runs a shell script."""
    return a_pod(namespace, name, ["sh", "-c", script], **container)


@dataclass(frozen=True)
class Gate:
    """Something that a script waits for, a named pipe."""

    path: Path

    @classmethod
    def made(cls, path: Path) -> "Gate":
        """Make one that is closed."""
        os.mkfifo(path)
        return cls(path)

    @property
    def wait(self) -> str:
        """Return the line of a script that waits."""
        return f"read _ < {self.path}"

    def open(self) -> None:
        """Let a script go on, as soon as one waits."""
        self.path.write_text("\n")


def terminated(pod: Raw, which: str = "containerStatuses") -> tuple[int, str, str]:
    """Return exit code, reason and message of a Pod's first container."""
    state = pod["status"][which][0]["state"]["terminated"]
    return state["exitCode"], state["reason"], state.get("message", "")
