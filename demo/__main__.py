"""`python -m demo`: the main job end to end, on real input, with every result checked.

Exits non-zero when anything is not as it should be. Cluster and operator stay up after a success, for the reader to look around.

Reads downwards: inputs, cluster, operator, the job, what came out of it. Everything lives below .cache/demo.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from demo.checks import check
from demo.inputs import cache_folder, prepare
from demo.narrate import Narrator

ROOT = Path(__file__).parents[1]
STATE = ROOT / ".cache" / "demo"
CLUSTER = "demo"
HOME = STATE / "clusters" / CLUSTER
EXAMPLE = ROOT / "examples" / "01-first-fine-tune"
FINETUNE = (sys.executable, "-m", "finetune_operator")
JOB = "chitchat"
RECORD = STATE / "job.json"
"""The finished job: `make pictures` draws it."""

Raw = dict[str, Any]


def main() -> int:
    """Run the demo, or delete what it made."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--clean", action="store_true", help="stop the demo's cluster and delete its state and adapter")
    if parser.parse_args().clean:
        return clean()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends like Ctrl-C: the cluster goes down
    story = Narrator()
    story.console.print(
        "[bold]finetune-operator[/bold]: one YAML file becomes a fine-tuned model, on this machine's CPU"
    )
    succeeded = False
    try:
        succeeded = tell(story)
    except (subprocess.CalledProcessError, RuntimeError) as error:
        story.console.print(f"[red]failed:[/red] {error}; logs are in {STATE.relative_to(ROOT)}")
    finally:
        if not succeeded:
            finetune("local", "down", "--name", CLUSTER)
    return 0 if succeeded else 1


def tell(story: Narrator) -> bool:
    """Tell the story; returns whether everything is as it should be."""
    story.step("A real base model and real conversations")
    claim = HOME / "claims" / "default" / "demo"
    inputs = prepare(story.say)

    story.step("A Kubernetes API server on this machine, and a node that stands in for one with GPUs")
    finetune("local", "down", "--name", CLUSTER)  # of an earlier demo; the data stays
    story.run(
        *FINETUNE, "local", "up", "--name", CLUSTER, "--crds", shown="finetune local up --crds", env=environment()
    )
    kubectl(story, "apply", "-f", str(EXAMPLE / "pool.yaml"))
    inputs.put_into(claim)
    kubectl(story, "apply", "-f", str(EXAMPLE / "claim.yaml"))

    story.step("The operator")
    start_operator(story)

    story.step("One YAML file")
    story.console.print((EXAMPLE / "job.yaml").read_text(), style="green", markup=False)
    kubectl(story, "delete", "-f", str(EXAMPLE / "job.yaml"), "--ignore-not-found", quiet=True)
    shutil.rmtree(claim / "adapters", ignore_errors=True)
    kubectl(story, "apply", "-f", str(EXAMPLE / "job.yaml"))
    command = [*FINETUNE, "watch", JOB, "--kubeconfig", str(kubeconfig())]
    if story.follow(command, shown=f"finetune watch {JOB}", env=environment()):
        explain(story)
        return False

    story.step("What came out")
    kubectl(story, "get", "finetunejobs")
    raw = kubectl(story, "get", "ftj", JOB, "-o", "json", quiet=True)
    RECORD.write_text(raw)
    problems = check(json.loads(raw)["status"], claim, story.say)
    for problem in problems:
        story.console.print(f"   [red]not as it should be:[/red] {problem}", highlight=False)
    if not problems:
        what_next(story)
    return not problems


def what_next(story: Narrator) -> None:
    """Name commands that work now: cluster and operator are still up."""
    program = Path(sys.executable).with_name("finetune")
    shown = program.relative_to(ROOT) if program.is_relative_to(ROOT) else program
    story.step("What next? The cluster and the operator are still running")
    story.command(f"export KUBECONFIG={kubeconfig()}")
    story.command(f"{shown} get {JOB}", "what the operator recorded")
    story.command(f"{shown} logs {JOB}", "what the trainer printed")
    story.command(
        f"{shown} plan -f examples/02-lora-s3/job.yaml --pools built-in", "what an 8B model would take and cost"
    )
    story.say("")
    story.command("make demo-clean", "stop it all and delete it")


def environment() -> dict[str, str]:
    """Return the environment of the commands: their own state folder, both cores for the one trainer."""
    return os.environ | {"FINETUNE_STATE": str(STATE), "OMP_NUM_THREADS": str(os.cpu_count() or 1)}


def kubeconfig() -> Path:
    """Return the kubeconfig of the demo's cluster."""
    return HOME / "admin.conf"


def finetune(*arguments: str) -> str:
    """Run `finetune` in silence and return what it printed."""
    done = subprocess.run([*FINETUNE, *arguments], env=environment(), capture_output=True, text=True, check=False)
    return done.stdout


def kubectl(story: Narrator, *arguments: str, quiet: bool = False) -> str:
    """Run kubectl on the demo's cluster, shown as a user would type it."""
    command = [*FINETUNE, "local", "kubectl", "--name", CLUSTER, "--", *arguments]
    if quiet:
        return subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    shown = "kubectl " + " ".join(argument.replace(f"{ROOT}/", "") for argument in arguments)
    return story.run(*command, shown=shown, env=environment())


def start_operator(story: Narrator) -> None:
    """Start the operator as one of the cluster's processes: they end together. Its log is a file."""
    command = [*FINETUNE, "local", "up", "--name", CLUSTER, "--operator"]
    story.run(*command, shown="finetune local up --operator", env=environment())


def explain(story: Narrator) -> None:
    """Show what is known about a job that did not succeed."""
    kubectl(story, "describe", "ftj", JOB)
    kubectl(story, "get", "pods", "-o", "wide")


def clean() -> int:
    """Delete the cluster, its state and the adapter."""
    finetune("local", "down", "--name", CLUSTER, "--delete")
    shutil.rmtree(STATE, ignore_errors=True)
    print(
        f"stopped the cluster and deleted {STATE.relative_to(ROOT)}; downloads and built programs stay in {cache_folder().parent}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
