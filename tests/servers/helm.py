"""helm with a home of its own: renders the chart, installs it on a control plane of the tests."""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_operator.local.binaries import HELM
from finetune_operator.local.provide import provide
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/finetune-operator"
RELEASE, SYSTEM = "finetune-operator", "finetune-system"
POOLS_SERVED = "--api-versions=finetune.dev/v1alpha1/GPUPool"
"""What `helm template` cannot ask: the kind is there, as on every install but the first."""

Raw = dict[str, Any]


@dataclass(frozen=True)
class Helm:
    """One helm; `kubeconfig` names the cluster of install, upgrade and uninstall."""

    kubeconfig: Path | None = None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run helm, whatever it answers."""
        program = str(provide([HELM], say=print)["helm"])
        with tempfile.TemporaryDirectory() as home:
            env = os.environ | homes(home) | ({"KUBECONFIG": str(self.kubeconfig)} if self.kubeconfig else {})
            return subprocess.run(
                [program, *arguments], capture_output=True, text=True, check=False, env=env, timeout=300
            )

    def ok(self, *arguments: str) -> str:
        """Run helm and return what it printed. Fails with its message."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def template(self, *options: str, release: str = RELEASE, namespace: str = SYSTEM) -> str:
        """Return the rendered manifests."""
        return self.ok("template", release, str(CHART), f"--namespace={namespace}", *options)


def homes(folder: str) -> Mapping[str, str]:
    """Return variables that keep helm away from the user's files."""
    return {f"HELM_{name}_HOME": f"{folder}/{name}" for name in ("CACHE", "CONFIG", "DATA")}


def objects(text: str) -> list[Raw]:
    """Return the objects of a YAML text."""
    return [document for document in YAML(typ="safe").load_all(text) if document]


def by_name(manifests: list[Raw]) -> dict[tuple[str, str, str], Raw]:
    """Return objects by kind, namespace and name; two of one name fail."""
    found = {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in manifests
    }
    assert len(found) == len(manifests)
    return found


if __name__ == "__main__":  # `make test` builds helm beside the first tests
    provide([HELM], say=print)
