"""The real Flux as processes beside the tests' control plane: source, kustomize and helm controller."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_operator.local import ports
from finetune_operator.local.provide import provide

from tests.cluster.client import Client, eventually
from tests.gitops.git import BRANCH
from tests.gitops.processes import Process, running
from tests.gitops.programs import FLUX, flux_module
from tests.servers.control_plane import ControlPlane

SYSTEM = "flux-system"
SOURCES = f"/apis/source.toolkit.fluxcd.io/v1/namespaces/{SYSTEM}/gitrepositories"
KUSTOMIZATIONS = f"/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{SYSTEM}/kustomizations"
RELEASES = f"/apis/helm.toolkit.fluxcd.io/v2/namespaces/{SYSTEM}/helmreleases"

Raw = dict[str, Any]


def source(name: str, url: str) -> Raw:
    """Return a GitRepository."""
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": name, "namespace": SYSTEM},
        "spec": {"interval": "1h", "url": url, "ref": {"branch": BRANCH}},
    }


def kustomization(name: str, repository: str, path: str, namespace: str, **spec: Any) -> Raw:
    """Return a Kustomization that prunes and waits; keywords replace parts of its spec."""
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": name, "namespace": SYSTEM},
        "spec": {
            "interval": "1h", "retryInterval": "10s", "timeout": "60s", "prune": True, "wait": True, "path": f"./{path}",
            "targetNamespace": namespace, "sourceRef": {"kind": "GitRepository", "name": repository}, **spec,
        },
    }  # fmt: skip


@dataclass(frozen=True)
class Flux:
    """A Flux that runs."""

    api: Client
    processes: tuple[Process, ...]

    def apply(self, *manifests: Raw) -> None:
        """Create Flux's objects, or change them."""
        for each in manifests:
            path = f"{collection(each)}/{each['metadata']['name']}?fieldManager=user&force=true"
            self.api.request("PATCH", path, each, "application/apply-patch+yaml")

    def fetch(self, name: str, commit: str) -> None:
        """Let it fetch a repository now; return when it has a commit."""
        self.ask(f"{SOURCES}/{name}")

        def fetched() -> bool:
            artifact = (self.api.get(f"{SOURCES}/{name}").get("status") or {}).get("artifact") or {}
            return commit in artifact.get("revision", "")

        eventually(fetched, f"{name} is at {commit}", 60)

    def ask(self, path: str) -> None:
        """Let it reconcile an object now."""
        moment = {"reconcile.fluxcd.io/requestedAt": os.urandom(8).hex()}
        self.api.patch(path, {"metadata": {"annotations": moment}})

    def ready(self, path: str) -> tuple[str, str, str]:
        """Return status, reason and message of an object's condition Ready."""
        conditions = ((self.api.find(path) or {}).get("status") or {}).get("conditions") or ()
        found = next((each for each in conditions if each["type"] == "Ready"), {})
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")

    def reaches(self, path: str, status: str, reason: str, seconds: float = 90) -> str:
        """Wait until an object is ready or not; return the message."""

        def look() -> bool:
            assert all(each.alive() for each in self.processes)
            return self.ready(path)[:2] == (status, reason)

        try:
            eventually(look, f"{path} has Ready={status} {reason}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.ready(path)}") from None
        return self.ready(path)[2]

    def applied(self, name: str, commit: str, seconds: float = 90) -> None:
        """Wait until a Kustomization has applied a commit and all is ready."""

        def look() -> bool:
            found = self.api.get(f"{KUSTOMIZATIONS}/{name}").get("status") or {}
            return commit in found.get("lastAppliedRevision", "")

        eventually(look, f"{name} has applied {commit}; {self.ready(f'{KUSTOMIZATIONS}/{name}')}", seconds)

    def remove(self, path: str) -> None:
        """Delete an object with what it has applied, and wait until it is gone."""
        if self.api.find(path) is not None:
            self.api.delete(path)
        eventually(lambda: self.api.find(path) is None, f"{path} is gone", 90)


def collection(manifest: Raw) -> str:
    """Return the path of an object's kind in its namespace."""
    namespace = manifest["metadata"]["namespace"]
    plural = f"{manifest['kind'].lower()}s".replace("repositorys", "repositories")
    return f"/apis/{manifest['apiVersion']}/namespaces/{namespace}/{plural}"


@contextmanager
def flux(api: Client, control_plane: ControlPlane, folder: Path) -> Iterator[Flux]:
    """Install Flux and run its controllers."""
    programs = provide(FLUX, say=print)
    for each in FLUX:
        control_plane.kubectl("apply", "--server-side", "-f", str(flux_module(each) / "config/crd/bases"))
    control_plane.kubectl("create", "namespace", SYSTEM, check=False)
    (folder / "tmp").mkdir(parents=True)
    env = {
        "KUBECONFIG": str(control_plane.kubeconfig), "RUNTIME_NAMESPACE": SYSTEM, "TMPDIR": str(folder / "tmp"),
        "TUF_ROOT": str(folder / "sigstore"), "HOME": str(folder),
    }  # fmt: skip
    artifacts = f"127.0.0.1:{ports.free_port(set())}"
    storage = (
        f"--storage-path={folder / 'artifacts'}",
        f"--storage-addr={artifacts}",
        f"--storage-adv-addr={artifacts}",
    )
    options = {
        "source-controller": storage,
        "kustomize-controller": ("--requeue-dependency=2s",),
        "helm-controller": ("--requeue-dependency=2s",),
    }
    (folder / "artifacts").mkdir()
    with ExitStack() as stack:

        def start(name: str) -> Process:
            metrics, health = (f"127.0.0.1:{ports.free_port(set())}" for _ in range(2))
            common = ("--watch-all-namespaces", f"--metrics-addr={metrics}", f"--health-addr={health}")
            return stack.enter_context(running([programs[name], *common, *options[name]], folder / f"{name}.log", env))

        yield Flux(api, tuple(start(each.name) for each in FLUX))
