"""The real Argo CD as processes beside the tests' control plane: repo-server, application and ApplicationSet controller, API server."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_operator.local import ports
from finetune_operator.local.provide import provide

from tests.cluster.client import ApiError, Client, eventually
from tests.gitops.git import BRANCH, PLAIN
from tests.gitops.processes import Process, running
from tests.gitops.programs import ARGOCD, KUSTOMIZE, REDIS, argocd_module
from tests.servers.control_plane import ControlPlane
from tests.servers.helm import HELM, homes

SYSTEM = "argocd"
APPLICATIONS = f"/apis/argoproj.io/v1alpha1/namespaces/{SYSTEM}/applications"
HERE = "https://kubernetes.default.svc"
FINALIZER = "resources-finalizer.argocd.argoproj.io"
SETTINGS_FILE = Path(__file__).parents[2] / "gitops/argocd/argocd-cm.yaml"

Raw = dict[str, Any]


def settings() -> list[Raw]:
    """Return what an installation of Argo CD has beside its Deployments."""
    labels = {"app.kubernetes.io/part-of": "argocd"}

    def named(kind: str, name: str, **rest: Any) -> Raw:
        return {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": SYSTEM, "labels": labels},
            **rest,
        }

    everything = {
        "sourceRepos": ["*"],
        "destinations": [{"namespace": "*", "server": "*"}],
        "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
    }
    project = named("AppProject", "default", spec=everything) | {"apiVersion": "argoproj.io/v1alpha1"}
    return [
        *(named("ConfigMap", name, data={}) for name in ("argocd-cm", "argocd-rbac-cm", "argocd-cmd-params-cm")),
        named("Secret", "argocd-secret", type="Opaque", stringData={"server.secretkey": "only-for-tests"}),
        project,
    ]


def application(name: str, url: str, path: str, namespace: str, **spec: Any) -> Raw:
    """Return an Application that syncs a folder by itself; keywords replace parts of its spec."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Application",
        "metadata": {"name": name, "namespace": SYSTEM, "finalizers": [FINALIZER]},
        "spec": {
            "project": "default",
            "source": {"repoURL": url, "targetRevision": BRANCH, "path": path},
            "destination": {"server": HERE, "namespace": namespace},
            "syncPolicy": policy(),
            **spec,
        },
    }


def policy(*options: str, prune: bool = True, heal: bool = True) -> Raw:
    """Return a sync policy; `options` are its syncOptions."""
    return {
        "automated": {"prune": prune, "selfHeal": heal},
        "syncOptions": list(options),
        "retry": {"limit": 1, "backoff": {"duration": "1s"}},
    }


@dataclass(frozen=True)
class State:
    """What a user sees of an Application."""

    sync: str
    health: str
    message: str = ""
    """Of the last sync, or of the condition that says why there is none."""


@dataclass(frozen=True)
class Argo:
    """An Argo CD that runs."""

    api: Client
    program: Path
    env: dict[str, str]
    server: str
    """Address of argocd-server."""
    processes: tuple[Process, ...]

    def apply(self, *manifests: Raw) -> None:
        """Create Applications, or change them."""
        for each in manifests:
            path = f"{APPLICATIONS}/{each['metadata']['name']}?fieldManager=user&force=true"
            self.api.request("PATCH", path, each, "application/apply-patch+yaml")

    def refresh(self, name: str, how: str = "normal") -> None:
        """Let it compare with git now; return when it has."""
        self.api.patch(f"{APPLICATIONS}/{name}", {"metadata": {"annotations": {"argocd.argoproj.io/refresh": how}}})

        def done() -> bool:
            notes = self.api.get(f"{APPLICATIONS}/{name}")["metadata"].get("annotations") or {}
            return "argocd.argoproj.io/refresh" not in notes

        eventually(done, f"{name} is compared", 60)

    def state(self, name: str) -> State:
        """Return what it says of an Application now."""
        found = self.api.find(f"{APPLICATIONS}/{name}") or {}
        status = found.get("status") or {}
        said = [each["message"] for each in status.get("conditions") or () if "Error" in each["type"]]
        operation = status.get("operationState") or {}
        failed = operation.get("message", "") if operation.get("phase") in ("Failed", "Error", "Running") else ""
        return State(
            sync=(status.get("sync") or {}).get("status", ""),
            health=(status.get("health") or {}).get("status", ""),
            message=" ".join(said) or failed,
        )

    def reaches(self, name: str, sync: str, health: str, seconds: float = 90) -> State:
        """Wait until an Application has a state."""

        def look() -> State | None:
            assert all(each.alive() for each in self.processes)
            now = self.state(name)
            return now if (now.sync, now.health) == (sync, health) else None

        try:
            return eventually(look, f"{name} is {sync}, {health}", seconds)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; it is {self.state(name)}: {self.api.find(f'{APPLICATIONS}/{name}')}"
            ) from None

    def resources(self, name: str) -> dict[str, tuple[str, str, str]]:
        """Return sync status, health and its message of each object, by Kind/name."""
        status = self.api.get(f"{APPLICATIONS}/{name}").get("status") or {}
        return {
            f"{each['kind']}/{each['name']}": (
                each.get("status", ""),
                (each.get("health") or {}).get("status", ""),
                (each.get("health") or {}).get("message", ""),
            )
            for each in status.get("resources") or ()
        }

    def remove(self, name: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Delete an Application with what it has applied, and wait until it is gone; `meanwhile` plays what it waits for."""
        try:
            self.api.delete(f"{APPLICATIONS}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise

        def gone() -> bool:
            meanwhile()
            return self.api.find(f"{APPLICATIONS}/{name}") is None

        eventually(gone, f"{name} is gone", 90)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line `argocd` against argocd-server, whatever it answers."""
        env = os.environ | self.env | {"ARGOCD_BINARY_NAME": "argocd"}
        command = [str(self.program), *arguments, "--server", self.server, "--plaintext"]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=120)


@contextmanager
def argocd(api: Client, control_plane: ControlPlane, folder: Path) -> Iterator[Argo]:
    """Install Argo CD with the settings of the documentation and run it."""
    programs = provide([REDIS, ARGOCD, KUSTOMIZE, HELM], say=print)
    install(control_plane)
    env = environment(control_plane, folder, programs)
    redis, repo, repo_metrics, metrics, sets, probe, hook, server, server_metrics = (
        ports.free_port(set()) for _ in range(9)
    )
    program = programs["argocd"]

    def start(name: str, *options: str) -> Process:
        own = env | {"ARGOCD_BINARY_NAME": name}
        return stack.enter_context(running([program, *options], folder / f"{name}.log", own))

    with ExitStack() as stack:
        stack.enter_context(running([programs["miniredis"], f"127.0.0.1:{redis}"], folder / "redis.log", {}))
        cache, where = f"--redis=127.0.0.1:{redis}", f"--kubeconfig={control_plane.kubeconfig}"
        processes = (
            start(
                "argocd-repo-server", "--address=127.0.0.1", f"--port={repo}", "--metrics-address=127.0.0.1",
                f"--metrics-port={repo_metrics}", cache, "--disable-tls", "--client-ca-path=",
            ),
            start(
                "argocd-application-controller", where, f"--namespace={SYSTEM}", cache, f"--repo-server=127.0.0.1:{repo}",
                "--repo-server-plaintext", f"--metrics-port={metrics}", "--app-resync=3600", "--app-resync-jitter=0",
                "--persist-resource-health", "--self-heal-backoff-timeout-seconds=1",
            ),
            start(
                "argocd-applicationset-controller", where, f"--namespace={SYSTEM}", f"--argocd-repo-server=127.0.0.1:{repo}",
                "--repo-server-plaintext", f"--metrics-addr=127.0.0.1:{sets}", f"--probe-addr=127.0.0.1:{probe}",
                f"--webhook-addr=127.0.0.1:{hook}",
            ),
            start(
                "argocd-server", where, f"--namespace={SYSTEM}", "--address=127.0.0.1", f"--port={server}",
                "--metrics-address=127.0.0.1", f"--metrics-port={server_metrics}", cache, f"--repo-server=127.0.0.1:{repo}",
                "--repo-server-plaintext", "--insecure", "--disable-auth",
            ),
        )  # fmt: skip
        yield Argo(api, program, env, f"127.0.0.1:{server}", processes)


def install(control_plane: ControlPlane) -> None:
    """Apply Argo CD's definitions and settings, then ours as its documentation in this repository says."""
    crds = argocd_module() / "manifests/crds"
    for name in ("application", "appproject", "applicationset"):
        control_plane.kubectl("apply", "--server-side", "-f", str(crds / f"{name}-crd.yaml"))
    control_plane.kubectl("create", "namespace", SYSTEM, check=False)
    control_plane.kubectl("wait", "--for=condition=Established", "crd/appprojects.argoproj.io", "--timeout=30s")
    control_plane.apply(*settings())
    control_plane.kubectl("-n", SYSTEM, "patch", "configmap", "argocd-cm", "--patch-file", str(SETTINGS_FILE))


def environment(control_plane: ControlPlane, folder: Path, programs: dict[str, Path]) -> dict[str, str]:
    """Return variables that keep Argo CD in a folder, with the programs that it calls on its PATH."""
    programs_folder = folder / "bin"
    programs_folder.mkdir(parents=True)
    for name in ("helm", "kustomize"):
        (programs_folder / name).symlink_to(programs[name])
    wrapper = programs_folder / "git-verify-wrapper.sh"  # a module's files are not executable
    shutil.copyfile(argocd_module() / "hack/git-verify-wrapper.sh", wrapper)
    wrapper.chmod(0o755)
    places = {
        "TMPDIR": "tmp", "HOME": "home", "XDG_CONFIG_HOME": "home", "ARGOCD_TLS_DATA_PATH": "tls", "ARGOCD_SSH_DATA_PATH": "ssh",
        "ARGOCD_GNUPGHOME": "gpg", "ARGOCD_PLUGINSOCKFILEPATH": "plugins",
    }  # fmt: skip
    for name in set(places.values()):
        (folder / name).mkdir()
    return {
        **{variable: str(folder / name) for variable, name in places.items()},
        **homes(str(folder / "helm")),
        **PLAIN,
        "KUBECONFIG": str(control_plane.kubeconfig),
        "ARGOCD_FAKE_IN_CLUSTER": "true",
        "ARGOCD_GPG_ENABLED": "false",
        "PATH": f"{programs_folder}:{os.environ['PATH']}",
    }
