"""The programs of this tier, built from Go modules in the way of the control plane's."""

import json
import os
import subprocess
from functools import cache
from pathlib import Path

from finetune_operator.local.binaries import Binary
from finetune_operator.local.build import go_tool
from finetune_operator.local.provide import provide

MODULES = Path(__file__).parent / "modules"


def _prometheus(name: str) -> Binary:
    return Binary(
        name=name,
        module=str(MODULES / "prometheus"),
        package=f"github.com/prometheus/prometheus/cmd/{name}",
        version="v0.316.0",
        version_command=("--version",),
        tags=("remove_all_sd",),  # without the discovery of all clouds, and their SDKs
    )


PROMETHEUS, PROMTOOL = _prometheus("prometheus"), _prometheus("promtool")
KUEUE_VERSION = "v0.19.2"
KUEUE = Binary(
    name="kueue",
    module=str(MODULES / "kueue"),
    package="sigs.k8s.io/kueue/cmd/kueue",
    version=f"{KUEUE_VERSION}-1",
    version_command=("--help",),
    # else its visibility server wants to write to the root of the file system; this is relative to where the manager is started
    linker_flags=("-s", "-w", "-X sigs.k8s.io/kueue/pkg/visibility.certDir=visibility"),
)
"""The manager of Kueue."""
ARGOCD = Binary(
    name="argocd",
    module=str(MODULES / "argocd"),
    package="github.com/argoproj/argo-cd/v3/cmd",
    version="v3.6.1",
    version_command=("version", "--client", "--short"),
    toolchain="go1.27.0",
)
"""All programs of Argo CD in one; ARGOCD_BINARY_NAME says which of them runs."""
REDIS = Binary(
    name="miniredis",
    module=str(MODULES / "argocd"),
    package="./redis",
    version="v2.39.0",
    version_command=("--version",),
    toolchain="go1.27.0",
)
"""The Redis that Argo CD's own command line uses, in a process."""
KUSTOMIZE = Binary(
    name="kustomize",
    module=str(MODULES / "kustomize"),
    package="sigs.k8s.io/kustomize/kustomize/v5",
    version="v5.8.1",
    version_command=("version",),
)
"""Argo CD calls it for folders with a kustomization.yaml."""


def _flux(name: str, version: str) -> Binary:
    return Binary(
        name=name,
        module=str(MODULES / "flux"),
        package=f"github.com/fluxcd/{name}",
        version=version,
        version_command=("--help",),
    )


FLUX = (
    _flux("source-controller", "v1.9.6"),
    _flux("kustomize-controller", "v1.9.6"),
    _flux("helm-controller", "v1.6.0"),
)
"""The controllers of Flux that fetch, apply and install charts."""

CONTROLLER_GEN = Binary(
    name="controller-gen",
    module=str(MODULES / "volcano"),
    package="sigs.k8s.io/controller-tools/cmd/controller-gen",
    version="v0.23.0",
    version_command=("--version",),
)
"""Makes definitions of Volcano's Go types: its module of types has none."""

SCHEDULER_PLUGINS = "sigs.k8s.io/scheduler-plugins@v0.34.7"
"""The module that has their definition of PodGroup."""

PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
"""The module that has the definitions of PodMonitor, ServiceMonitor and PrometheusRule."""


def volcano_definition(folder: Path) -> Path:
    """Return the definition of Volcano's PodGroup, made from its types of v1.14.0."""
    program = provide([CONTROLLER_GEN], say=print)["controller-gen"]
    subprocess.run(
        [str(program), "crd", "paths=volcano.sh/apis/pkg/apis/scheduling/v1beta1", f"output:crd:dir={folder}"],
        cwd=MODULES / "volcano", env={**os.environ, "PATH": f"{go_tool(print).parent}{os.pathsep}{os.environ['PATH']}"}, check=True,
    )  # fmt: skip
    return folder / "scheduling.volcano.sh_podgroups.yaml"


def argocd_module() -> Path:
    """Return the folder of Argo CD's files."""
    return module_folder(f"github.com/argoproj/argo-cd/v3@{ARGOCD.version}", ARGOCD.toolchain)


def flux_module(controller: Binary) -> Path:
    """Return the folder of a controller's files."""
    return module_folder(f"{controller.package}@{controller.version}")


@cache
def module_folder(module: str, toolchain: str | None = None) -> Path:
    """Return the folder of a Go module's files, fetching it once."""
    command = [str(go_tool(print)), "mod", "download", "-json", module]
    env = os.environ | ({"GOTOOLCHAIN": toolchain} if toolchain else {})
    answer = subprocess.run(command, cwd=MODULES, env=env, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise AssertionError(f"{' '.join(command)}: {answer.stdout}{answer.stderr}")
    return Path(json.loads(answer.stdout)["Dir"])
