"""`make kind-demo`: the demo's job on a kind cluster, for people with Docker: our images, our chart, real Pods.

The node pretends to have two GPUs, and the trainer's image says that it computes on the CPU; all else is as on a cluster
with GPUs. Everything lives below .cache/kind and in the kind cluster `finetune-demo`.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from finetune_operator import __version__
from finetune_operator.local.binaries import HELM, KUBECTL
from finetune_operator.local.provide import provide

from demo.checks import check
from demo.inputs import Inputs, prepare
from demo.narrate import Narrator

ROOT = Path(__file__).parents[1]
STATE = ROOT / ".cache" / "kind"
CLAIM, KUBECONFIG = STATE / "claim", STATE / "kubeconfig"
CLUSTER, NODE, JOB = "finetune-demo", "finetune-demo-control-plane", "chitchat"
SYSTEM, CHART = "finetune-system", ROOT / "charts/finetune-operator"
EXAMPLE = ROOT / "examples/01-first-fine-tune"
FINETUNE = (sys.executable, "-m", "finetune_operator")

OPERATOR, PREFLIGHT, TRAINER = (
    f"ghcr.io/finetune-operator/{name}:{__version__}" for name in ("operator", "preflight", "trainer")
)
"""The names that the chart's default values have."""
GPU_LABELS = ("nvidia.com/gpu.product=local-cpu", "nvidia.com/gpu.memory=16384")
"""What GPU feature discovery would say about the pretended GPUs."""
GPUS = {"status": {"capacity": {"nvidia.com/gpu": "2"}, "allocatable": {"nvidia.com/gpu": "2"}}}

Raw = dict[str, Any]


def main() -> int:
    """Run the demo, or delete what it made."""
    parser = argparse.ArgumentParser(prog="demo.kind", description=__doc__)
    parser.add_argument("--clean", action="store_true", help="delete the kind cluster and the demo's files")
    clean = parser.parse_args().clean
    if reason := missing():
        print(reason, file=sys.stderr)
        return 1
    if clean:
        subprocess.run(["kind", "delete", "cluster", "--name", CLUSTER], check=True)
        shutil.rmtree(STATE, ignore_errors=True)
        return 0
    story = Narrator()
    try:
        return tell(story)
    except subprocess.CalledProcessError as error:
        story.console.print(f"[red]failed:[/red] {error}; the cluster is left as it is (python -m demo.kind --clean)")
        return 1


def missing() -> str:
    """Return why the demo cannot run here; empty where it can."""
    absent = [name for name in ("docker", "kind") if shutil.which(name) is None]
    if absent:
        return f"make kind-demo needs docker and kind on PATH; missing: {', '.join(absent)}. Without Docker: make demo"
    answer = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    if answer.returncode:
        reason = (answer.stderr or answer.stdout).strip().splitlines()[-1]
        return f"make kind-demo needs a Docker daemon that answers: {reason.rstrip('.')}. Without Docker: make demo"
    return ""


def tell(story: Narrator) -> int:
    """Tell the story; returns the exit code."""
    story.step("A real base model and real conversations, in a folder that the node mounts")
    fill(prepare(story.say))

    story.step("Our images, under the names of the chart")
    for image, dockerfile, target in images():
        run(story, "docker", "build", "--quiet", "-f", dockerfile, "--target", target, "-t", image, str(ROOT))
    on_the_cpu(story)

    story.step("A kind cluster whose node pretends to have two GPUs")
    config = STATE / "kind.yaml"
    config.write_text(yaml.safe_dump(kind_config()))
    run(story, "kind", "create", "cluster", f"--name={CLUSTER}", f"--config={config}", f"--kubeconfig={KUBECONFIG}")
    for image in (OPERATOR, PREFLIGHT, TRAINER):
        run(story, "kind", "load", "docker-image", "--name", CLUSTER, image)
    kubectl(story, "label", "node", NODE, *GPU_LABELS)
    kubectl(story, "patch", "node", NODE, "--subresource=status", "--type=merge", "-p", json.dumps(GPUS))

    story.step("The chart, and a pool for what the node offers")
    where = ("-n", SYSTEM, "--create-namespace", "--wait", f"--kubeconfig={KUBECONFIG}")
    run(story, program("helm"), "install", "finetune-operator", str(CHART), *where)
    found = run(story, *FINETUNE, "pools", "discover", "--price=local-cpu=1.00", f"--kubeconfig={KUBECONFIG}")
    apply(story, "pool", found)
    apply(story, "claim", yaml.safe_dump_all(claim()))

    story.step("One YAML file")
    kubectl(story, "apply", "-f", str(EXAMPLE / "job.yaml"))
    watch = [*FINETUNE, "watch", JOB, f"--kubeconfig={KUBECONFIG}"]
    ended = story.follow(watch, shown=f"finetune watch {JOB}")
    kubectl(story, "get", "finetunejobs,pods", "-o", "wide")
    status = json.loads(kubectl(story, "get", "ftj", JOB, "-o", "json", quiet=True))["status"]
    problems = check(status, CLAIM, story.say) if ended == 0 else [f"the job ended with code {ended}"]
    for problem in problems:
        story.console.print(f"   [red]not as it should be:[/red] {problem}", highlight=False)
    story.say("delete everything: python -m demo.kind --clean")
    return 1 if problems else 0


def fill(inputs: Inputs) -> None:
    """Put model and data where the claim will be, readable for the images' user, who may write beside them."""
    inputs.put_into(CLAIM)
    CLAIM.chmod(0o777)  # what a run before this one published belongs to the images' user
    for path in (*(CLAIM / "models").rglob("*"), *(CLAIM / "data").rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def images() -> tuple[tuple[str, str, str], ...]:
    """Return name, Dockerfile and target of each image."""
    return (
        (OPERATOR, str(ROOT / "operator/Dockerfile"), "operator"),
        (PREFLIGHT, str(ROOT / "trainer_image/Dockerfile"), "preflight"),
        (TRAINER, str(ROOT / "trainer_image/Dockerfile"), "trainer"),
    )


def on_the_cpu(story: Narrator) -> None:
    """Put one variable on top of the trainer's image: without it the trainer ends with NoAccelerator."""
    folder = STATE / "on-the-cpu"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(f"FROM {TRAINER}\nENV FINETUNE_DEVICE=cpu\n")
    run(story, "docker", "build", "--quiet", "-t", TRAINER, str(folder))


def kind_config() -> Raw:
    """Return a cluster of one node that mounts the folder of the claim."""
    mounts = [{"hostPath": str(CLAIM), "containerPath": "/claim"}]
    node = {"role": "control-plane", "extraMounts": mounts}
    return {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [node]}


def claim() -> list[Raw]:
    """Return the volume and the claim `demo` of the example, bound to each other."""
    (wanted,) = yaml.safe_load_all((EXAMPLE / "claim.yaml").read_text())
    spec = wanted["spec"] | {"storageClassName": "", "volumeName": "demo"}
    volume = {
        "capacity": wanted["spec"]["resources"]["requests"],
        "accessModes": wanted["spec"]["accessModes"],
        "storageClassName": "",
        "hostPath": {"path": "/claim"},
    }
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "demo"}, "spec": volume},
        wanted | {"spec": spec},
    ]


def apply(story: Narrator, name: str, manifest: str) -> None:
    """Apply a text by way of a file, so that the command can be shown."""
    path = STATE / f"{name}.yaml"
    path.write_text(manifest)
    kubectl(story, "apply", "-f", str(path))


def kubectl(story: Narrator, *arguments: str, quiet: bool = False) -> str:
    """Run kubectl on the kind cluster."""
    command = [program("kubectl"), f"--kubeconfig={KUBECONFIG}", *arguments]
    if quiet:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return run(story, *command)


def run(story: Narrator, *command: str) -> str:
    """Run a command, shown as a user would type it in the repository."""
    own = len(FINETUNE) if command[: len(FINETUNE)] == FINETUNE else 1
    name = "finetune" if own > 1 else Path(command[0]).name
    return story.run(
        *command, shown=f"{name} {shlex.join(command[own:])}".replace(f"{ROOT}/", "").replace(str(ROOT), ".")
    )


def program(name: str) -> str:
    """Return the user's own kubectl or helm, else the pinned one, built if it has to be."""
    return shutil.which(name) or str(provide([{"kubectl": KUBECTL, "helm": HELM}[name]], say=print)[name])


if __name__ == "__main__":
    sys.exit(main())
