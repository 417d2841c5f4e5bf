"""What Tab offers, in each shell: by the protocol through which the shell asks the program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.cli.complete import fields
from finetune_operator.cli.known_fields import leaf_paths

FINETUNE = Path(sys.executable).parent / "finetune"


def offered(shell: str, line: str) -> str:
    """Return what the program answers to a shell that completes the last word of a line."""
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    environment = os.environ | asked | {"_FINETUNE_COMPLETE": f"complete_{shell}"}
    return subprocess.run([FINETUNE], capture_output=True, text=True, env=environment, check=False).stdout.strip()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("finetune sus", ["suspend"]),
        ("finetune local kube", ["kubeconfig", "kubectl"]),
        ("finetune plan --expl", ["--explain"]),
        ("finetune rerun qa --set training.learn", ["training.learningRate="]),
    ],
)
def test_commands_options_and_fields_are_offered(shell: str, line: str, words: list[str]):
    """Of the program, of its groups, and of --set."""
    said = offered(shell, line)

    assert [word for word in words if word not in said] == []
    assert "submit" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sus",), ["suspend\tSuspend a job: it keeps its checkpoint and...", ":4"]),
        (("rerun", "qa", "--set", "training.learn"), ["training.learningRate=", ":6"]),
        (("submit", ""), [":0"]),
    ],
    ids=["a command", "a field", "a file"],
)
def test_kubectl_asks_and_is_answered_in_its_own_protocol(words: tuple[str, ...], said: list[str]):
    """Candidates with what they are, then whether file names may follow, and whether a space."""
    asked = [FINETUNE.with_name("kubectl_complete-finetune"), *words]

    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines() == said


def test_without_a_cluster_no_jobs_are_offered_and_nothing_is_said():
    """A shell shows what a program prints while somebody types."""
    assert offered("bash", "finetune get q") == ""


def test_fields_are_offered_as_they_are_written():
    """Without `spec.`, the first item of a list as [0], and no struct that holds other fields."""
    found = leaf_paths(FineTuneJobSpec)

    assert {"training.learningRate", "datasets[0].source", "datasets[0].columns.prompt", "suspend"} <= set(found)
    assert {"training", "datasets", "datasets[0].columns", "spec.suspend"} & set(found) == set()
    assert fields("training.learn") == ["training.learningRate="]
