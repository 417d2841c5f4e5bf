"""The programs of this tier, built from Go modules in the way of the control plane's."""

import json
import os
import subprocess
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


def module_folder(module: str) -> Path:
    """Return the folder of a Go module's files, fetching it once."""
    command = [str(go_tool(print)), "mod", "download", "-json", module]
    answer = subprocess.run(command, cwd=MODULES, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise AssertionError(f"{' '.join(command)}: {answer.stdout}{answer.stderr}")
    return Path(json.loads(answer.stdout)["Dir"])
