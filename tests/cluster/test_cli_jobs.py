"""submit, suspend, resume, rerun, diff and delete against a real API server, as a user types them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from finetune_operator.local.binaries import KUBECTL
from finetune_operator.local.provide import provide

from tests.cluster.client import Client, eventually
from tests.cluster.conftest import StartOperator
from tests.cluster.plays import Play, a_job, preempted
from tests.cluster.standin import StandIn
from tests.cluster.test_controller_runs import jobs, reaches
from tests.servers.control_plane import ControlPlane

pytestmark = pytest.mark.cluster

JOB = """apiVersion: finetune.dev/v1alpha1
kind: FineTuneJob
metadata: {name: tiny}
spec:
  model: {source: s3://models/tiny}
  datasets: [{source: s3://models/rows.jsonl}]
  output: {destination: s3://models/out}
"""

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Typed:
    """Return a function that runs `finetune ARGUMENTS` in the test's namespace: exit code, stdout, stderr."""
    (tmp_path / "job.yaml").write_text(JOB)
    environment = os.environ | {"KUBECONFIG": str(control_plane.kubeconfig), "HOME": str(tmp_path)}

    def run(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "finetune_operator", *arguments, "-n", namespace]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        said = [text.replace(namespace, "NS") for text in (done.stdout, done.stderr)]
        return done.returncode, said[0], said[1]

    return run


def test_a_job_that_nobody_looks_after_says_what_to_start(api: Client, typed: Typed):
    """The job is there, and the sentence names the command for this cluster."""
    assert typed("submit", "job.yaml") == (
        0,
        "created NS/tiny on the local cluster tests\n"
        "no operator has looked at it yet: start one with `finetune local up --operator --name tests`\n",
        "",
    )
    assert typed("submit", "job.yaml")[1].splitlines()[0] == "NS/tiny exists already and is the same"


def test_a_job_is_suspended_resumed_rerun_and_deleted(api: Client, typed: Typed):
    """Each command ends with the next step, and each mistake with what to do."""
    typed("submit", "job.yaml")

    assert typed("suspend", "tiny") == (
        0,
        "suspended NS/tiny: it waits until it is resumed\n\nNext:\n  finetune resume tiny -n NS  # continue from the checkpoint\n",
        "",
    )
    assert typed("suspend", "tiny")[1].splitlines()[0] == "NS/tiny is suspended already"
    assert typed("resume", "tiny")[1] == (
        "resumed NS/tiny: it starts\n\nNext:\n  finetune watch tiny -n NS  # follow it until it finishes\n"
    )
    assert typed("rerun", "tiny", "--set", "training.learningRate=1e-4")[1].splitlines()[:4] == [
        "tiny-2 is tiny with",
        "  output.destination: s3://models/out -> s3://models/out-tiny-2",
        "  training.learningRate: - -> 1e-4",
        "created NS/tiny-2 on the local cluster tests",
    ]
    assert typed("diff", "tiny", "tiny-2") == (
        0,
        "SETTING                 tiny              tiny-2\n"
        "output.destination      s3://models/out   s3://models/out-tiny-2\n"
        "training.learningRate   -                 1e-4\n",
        "",
    )
    assert typed("diff", "tiny", "job.yaml")[1] == "tiny and job.yaml have the same settings\n"
    assert typed("delete", "tiny-2") == (0, "deleted NS/tiny-2\n", "")
    assert typed("delete", "tiny-2") == (
        1,
        "",
        "finetune: FineTuneJob tiny-2 not found in namespace NS: did you mean tiny?\n",
    )
    assert typed("rerun", "tiny", "--set", "training.lr=1")[2] == (
        "finetune: spec.training.lr: unknown field: see docs/api.md for the fields\n"
    )


def test_a_command_owns_the_fields_that_it_writes(api: Client, typed: Typed, namespace: str):
    """Under a name of its own: who suspended a job, a person or the operator, can be told from the object."""
    typed("submit", "job.yaml")
    typed("suspend", "tiny")

    job = api.get(f"{jobs(namespace)}/tiny")

    assert {each["manager"] for each in job["metadata"]["managedFields"]} == {"finetune"}


def test_another_job_of_the_same_name_is_not_replaced(api: Client, typed: Typed, tmp_path: Path):
    """The differences are named; what is in the cluster stays as it is."""
    typed("submit", "job.yaml")
    (tmp_path / "job.yaml").write_text(JOB.replace("out}", "elsewhere}"))

    code, _, said = typed("submit", "job.yaml")

    assert (code, said) == (
        1,
        "finetune: NS/tiny exists and differs:\n"
        "  output.destination: s3://models/out -> s3://models/elsewhere\n"
        "submit it under another metadata.name and output.destination, or delete the existing job first: finetune delete tiny\n",
    )
    assert typed("diff", "tiny", "job.yaml")[1].splitlines()[1].split() == [
        "output.destination", "s3://models/out", "s3://models/elsewhere",
    ]  # fmt: skip


def test_what_cannot_be_created_is_said(api: Client, typed: Typed, tmp_path: Path):
    """A namespace that is not there, two names of one, and a checkpoint that this machine cannot reach."""
    (tmp_path / "other.yaml").write_text(JOB.replace("name: tiny", "name: tiny, namespace: other"))
    (tmp_path / "claim.yaml").write_text(JOB.replace("s3://models/out", "pvc://store/out").replace("tiny}", "held}", 1))
    typed("submit", "claim.yaml")

    assert typed("submit", "other.yaml")[2] == (
        "finetune: the file names the namespace other, and -n names NS: leave one of them out\n"
    )
    assert typed("submit", "gone.yaml")[0] == 2
    assert typed("delete", "held", "--with-checkpoints")[2] == (
        "finetune: the checkpoints of NS/held are in the PersistentVolumeClaim store, which this machine cannot reach: mount it and "
        "pass --claim store=FOLDER, or leave out --with-checkpoints\n"
    )
    assert api.get(f"/apis/finetune.dev/v1alpha1/namespaces/{namespace_of(api)}/finetunejobs/held")


def namespace_of(api: Client) -> str:
    """Return the namespace of the job `held`."""
    items = api.get("/apis/finetune.dev/v1alpha1/finetunejobs")["items"]
    return next(item["metadata"]["namespace"] for item in items if item["metadata"]["name"] == "held")


def test_with_an_operator_the_first_word_about_the_job_is_printed(
    standin: StandIn, typed: Typed, start_operator: StartOperator
):
    """What it does, and two commands; and a plan of the same file is made from what preflight found and the cluster's pools."""
    start_operator().start()
    code, said, _ = typed("submit", "job.yaml")
    lines = said.splitlines()

    assert (code, lines[0], lines[2:]) == (
        0,
        "created NS/tiny on the local cluster tests",
        [
            "",
            "Next:",
            "  finetune watch tiny -n NS    # follow it until it finishes",
            "  finetune logs tiny -f -n NS  # read what the trainer prints",
        ],
    )
    assert lines[1].partition(":")[0] in ("Preflight", "Planned", "Training", "Succeeded")
    eventually(lambda: "Succeeded" in typed("get", "tiny")[1], "the end of the job")


def test_a_job_at_its_budget_resumes_with_a_higher_one(
    api: Client, standin: StandIn, namespace: str, typed: Typed, start_operator: StartOperator
):
    """Without one, or with one that is used up already, the command says what was spent; nothing changes, for nothing would happen."""
    standin.scripts["costly"] = {"0": Play(hold=True), "sigterm": preempted(7)}
    start_operator().start()
    api.create(jobs(namespace), a_job("costly", runPolicy={"budget": {"maxCostUSD": "0.001"}}))
    reaches(api, namespace, "costly", "Suspended")

    without = typed("resume", "costly")
    too_little = typed("resume", "costly", "--set", "runPolicy.budget.maxCostUSD=0.0005")
    beside = typed("resume", "costly", "--set", "runPolicy.maxRetries=2")
    kept = api.get(f"{jobs(namespace)}/costly")["spec"]["runPolicy"]
    wrong = typed("resume", "costly", "--set", "runPolicy.budget.maxCostUSD=much")
    enough = typed("resume", "costly", "--set", "runPolicy.budget.maxCostUSD=5")
    reaches(api, namespace, "costly", "Succeeded")

    assert without == (
        1,
        "",
        "finetune: NS/costly was not suspended by spec.suspend. Suspended: BudgetExceeded: the job has spent its budget of $0.001: raise "
        "runPolicy.budget.maxCostUSD to continue. Raise the limit: finetune resume costly -n NS --set runPolicy.budget.maxCostUSD=AMOUNT\n",
    )
    for code, _, said in (too_little, beside):
        assert code == 1
        assert said.startswith("finetune: NS/costly would be suspended again immediately: it has cost $0.0")
        assert said.endswith(" for the whole run). Set a higher one: --set runPolicy.budget.maxCostUSD=AMOUNT\n")
    assert kept == {"budget": {"maxCostUSD": "0.001"}}
    assert (wrong[0], "runPolicy.budget.maxCostUSD" in wrong[2]) == (1, True)
    assert enough == (
        0,
        "resumed NS/costly: it continues from step 7\n\nNext:\n  finetune watch costly -n NS  # follow it until it finishes\n",
        "",
    )


def test_tab_offers_the_jobs_and_lists_are_printed_for_scripts(
    api: Client, typed: Typed, control_plane: ControlPlane, namespace: str
):
    """The names of the namespace, as kubectl writes them, and whole objects."""
    typed("submit", "job.yaml")
    asked = {"COMP_WORDS": f"finetune get -n {namespace} ti", "COMP_CWORD": "4", "_FINETUNE_COMPLETE": "complete_bash"}
    environment = os.environ | asked | {"KUBECONFIG": str(control_plane.kubeconfig)}
    program = Path(sys.executable).parent / "finetune"
    offered = subprocess.run([program], capture_output=True, text=True, env=environment, check=True).stdout

    assert offered.strip() == "tiny"
    assert typed("get", "-o", "name") == (0, "finetunejob.finetune.dev/tiny\n", "")
    assert json.loads(typed("get", "-o", "json")[1])["items"][0]["metadata"]["name"] == "tiny"
    assert "kind: FineTuneJob" in typed("get", "tiny", "-o", "yaml")[1]


def test_kubectl_completes_the_jobs(api: Client, control_plane: ControlPlane, typed: Typed, namespace: str):
    """The real kubectl finds our answer by its name, and offers the jobs of the namespace."""
    typed("submit", "job.yaml")
    kubectl = str(provide([KUBECTL], say=print)["kubectl"])
    environment = os.environ | {
        "KUBECONFIG": str(control_plane.kubeconfig), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    command = [kubectl, "__complete", "finetune", "get", "-n", namespace, "ti"]

    assert subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout == "tiny\n:4\n"
